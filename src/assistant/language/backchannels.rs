//! What listeners say in order to be told more: it is no wish to speak.

/// By ISO 639-1 code: short words without punctuation, in lower case.
const WORDS: [(&str, &str); 8] = [
    ("en", "yes yeah yep yup ok okay right sure fine good great alright uh-huh mm-hmm i see got it"),
    ("de", "ja jo jep okay ok gut genau klar stimmt richtig alles klar ach so aha ja ja na gut"),
    ("fr", "oui ouais ok okay d'accord bien bon voilà ah bon très bien je vois"),
    ("es", "sí si vale ok okay claro bien bueno ya ajá muy bien entiendo"),
    ("it", "sì si ok okay va bene bene certo esatto giusto capito ah ecco"),
    ("pt", "sim tá ok okay certo bem claro pois isso está bem tudo bem entendo"),
    ("nl", "ja jawel oké ok okay goed precies klopt prima juist ja ja"),
    ("pl", "tak no ok okej okay dobrze dobra jasne aha rozumiem no tak"),
];
/// The same in every language.
const SOUNDS: &str = "mhm mm mmm hm hmm hmhm uhm um uh uhuh ah aha oh eh äh ähm ehm hä m";
/// Words that take two or three to say it.
const MOST_WORDS: usize = 3;

/// Whether `text` says nothing but "go on" in this language, such as "Mhm." or "Ja, okay.". `None`: in English.
pub(super) fn is_backchannel(code: Option<&str>, text: &str) -> bool {
    let own = WORDS.iter().find(|(language, _)| *language == code.unwrap_or("en"));
    let known: Vec<&str> =
        own.iter().flat_map(|(_, words)| words.split(' ')).chain(SOUNDS.split(' ')).collect();
    let text = text.to_lowercase();
    let words: Vec<&str> = text
        .split(|letter: char| !letter.is_alphanumeric() && letter != '\'' && letter != '-')
        .filter(|word| !word.is_empty())
        .collect();
    (1..=MOST_WORDS).contains(&words.len()) && words.iter().all(|word| known.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_does_not_interrupt() {
        for (code, text) in [
            (None, "Mhm."),
            (Some("en"), "Yeah, okay."),
            (Some("de"), "Ja, ja."),
            (Some("de"), "Alles klar!"),
            (Some("fr"), "D'accord."),
            (Some("es"), "Sí, claro."),
            (Some("it"), "Va bene."),
            (Some("pt"), "Tá."),
            (Some("nl"), "Oké"),
            (Some("pl"), "Aha, rozumiem."),
            (Some("tr"), "Hmm"),
        ] {
            assert!(is_backchannel(code, text), "{code:?} {text}");
        }
        for (code, text) in [
            (None, "Stop."),
            (None, "No."),
            (None, ""),
            (Some("en"), "Yes but wait"),
            (Some("de"), "Nein."),
            (Some("de"), "Yes."),
            (Some("de"), "Ja ja ja ja ja."),
        ] {
            assert!(!is_backchannel(code, text), "{code:?} {text}");
        }
    }
}
