//! Languages: the tags that an owner may write, the locales in which Twilio's `<Say>` speaks, and the words that we have
//! in each language.
//!
//! A model speaks more languages than `<Say>` does. So a tag has two uses: the model and the transcription take its
//! language, and TwiML takes one of [`locales`].

mod backchannels;
mod labels;
mod spoken;
mod words;

pub use labels::Labels;
pub use spoken::letters;
#[cfg(test)]
pub use words::ALL;
pub use words::Words;

/// The locales of `<Say>`, as in `SayLanguage` and `SayVoice` of Twilio's official Node library 6.2. The first of a
/// language stands for the language alone.
const LOCALES: &str = "af-ZA am-ET ar-XA ar-AE arb bg-BG bn-IN ca-ES cmn-CN cmn-TW cs-CZ cy-GB da-DK \
    de-DE de-AT el-GR en-US en-AU en-CA en-GB en-GB-WLS en-IE en-IN en-NZ en-ZA \
    es-ES es-MX es-US eu-ES fi-FI fil-PH fr-FR fr-BE fr-CA gl-ES gu-IN he-IL hi-IN \
    hu-HU id-ID is-IS it-IT ja-JP kn-IN ko-KR lt-LT lv-LV ml-IN mr-IN ms-MY nb-NO \
    nl-NL nl-BE pa-IN pl-PL pt-BR pt-PT ro-RO ru-RU sk-SK sr-RS sv-SE ta-IN te-IN \
    th-TH tr-TR uk-UA vi-VN yue-HK zh-CN zh-HK zh-TW";

/// The locale of a sentence whose language is not known, or that exists only in English.
pub const ENGLISH: &str = "en-US";

/// Languages under another code in [`LOCALES`].
const ALIASES: [(&str, &str); 2] = [("no", "nb-NO"), ("tl", "fil-PH")];

/// Languages that models of transcription know under another code: Whisper's list has 99 of ISO 639-1, `haw` and `yue`.
const TRANSCRIBED: [(&str, &str); 4] = [("cmn", "zh"), ("arb", "ar"), ("fil", "tl"), ("nb", "no")];

/// Three-letter codes of languages that have a shorter one, which is the one to write.
const LONG: [(&str, &str); 12] = [
    ("eng", "en"),
    ("deu", "de"),
    ("ger", "de"),
    ("fra", "fr"),
    ("fre", "fr"),
    ("spa", "es"),
    ("ita", "it"),
    ("por", "pt"),
    ("nld", "nl"),
    ("dut", "nl"),
    ("pol", "pl"),
    ("rus", "ru"),
];

/// The languages of ISO 639-1.
const LANGUAGES: &str = "aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da \
    de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik \
    io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms \
    mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm \
    sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu";

/// The countries of ISO 3166-1, and Arabic as spoken everywhere (`XA`).
const COUNTRIES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR \
    BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET \
    FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ \
    IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML \
    MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS \
    PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL \
    TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XA YE YT ZA ZM ZW";

/// A language as an owner wrote it, with a code that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Language {
    /// BCP 47, such as `de` or `de-CH`.
    tag: String,
}

/// Whether `text` says nothing but "go on" in this language, such as "mhm" and "okay".
pub fn is_backchannel(language: Option<&Language>, text: &str) -> bool {
    backchannels::is_backchannel(language.map(Language::code), text)
}

/// Why a tag names no language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoLanguage {
    /// It is not written like a tag.
    Form,
    /// There is no such language, or no such country.
    Code,
}

/// How well `<Say>` speaks a language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// In this locale.
    Exactly(&'static str),
    /// Not as in the country that was named; this is the nearest locale.
    Elsewhere(&'static str),
    Never,
}

impl Language {
    /// Reads a tag such as `de`, `de-DE` or `zh-Hans-CN`.
    ///
    /// # Errors
    /// The tag names no language.
    pub fn read(tag: &str) -> Result<Language, NoLanguage> {
        let tag = tag.trim();
        let mut parts = tag.split('-');
        let code = parts.next().unwrap_or_default();
        let is_code = (2..=3).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_lowercase());
        let is_part =
            |part: &str| (2..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_code || !parts.clone().all(is_part) {
            return Err(NoLanguage::Form);
        }
        // A country follows the language, or its script.
        let country = parts.find(|part| part.len() != 4).unwrap_or_default().to_ascii_uppercase();
        let is_letters = country.len() == 2 && country.bytes().all(|b| b.is_ascii_alphabetic());
        // Other codes have three letters and are too many to know.
        let known =
            |list: &str, code: &str| code.len() != 2 || list.split_whitespace().any(|known| known == code);
        let is_long = LONG.iter().any(|(long, _)| *long == code);
        match !is_long && known(LANGUAGES, code) && (!is_letters || known(COUNTRIES, &country)) {
            true => Ok(Language { tag: tag.to_owned() }),
            false => Err(NoLanguage::Code),
        }
    }

    /// The tag as written.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The language without its country, as models of transcription know it.
    pub fn code(&self) -> &str {
        let code = code_of(&self.tag);
        TRANSCRIBED.iter().find(|(twilio, _)| *twilio == code).map_or(code, |(_, model)| model)
    }

    /// What a model understands: `German`, or the tag of a language whose name we do not have.
    pub fn name(&self) -> String {
        Words::of(&self.tag)
            .map_or_else(|| format!("the language `{}`", self.tag), |words| words.name.to_owned())
    }

    /// In which locale `<Say>` speaks it.
    pub fn spoken(&self) -> Spoken {
        let parts: Vec<&str> = self.tag.split('-').collect();
        // A script changes nothing that is heard.
        let heard: Vec<&str> = parts
            .iter()
            .enumerate()
            .filter(|(at, part)| *at == 0 || part.len() != 4)
            .map(|(_, part)| *part)
            .collect();
        let find = |tag: &str| locales().find(|locale| locale.eq_ignore_ascii_case(tag));
        let code = heard[0];
        let alias = ALIASES.iter().find(|(alias, _)| *alias == code).map(|(_, locale)| *locale);
        let first = || alias.or_else(|| locales().find(|locale| code_of(locale) == code));
        let exact = match heard.len() {
            1 => first(),
            _ => find(&heard.join("-")),
        };
        match (exact, first()) {
            (Some(locale), _) => Spoken::Exactly(locale),
            (None, Some(locale)) => Spoken::Elsewhere(locale),
            (None, None) => Spoken::Never,
        }
    }
}

/// What the owner of a wrong tag probably means: `en-GB` for `en-UK`, `de-DE` for `German` and for `DE`.
pub fn suggestion(wrong: &str) -> Option<&'static str> {
    let wrong = wrong.trim().replace('_', "-").to_lowercase();
    let named = words::ALL.iter().find(|words| words.name.to_lowercase() == wrong);
    if let Some(words) = named {
        return Some(words.locale);
    }
    // The country's code is `GB`.
    let wrong = wrong.strip_suffix("-uk").map_or_else(|| wrong.clone(), |code| format!("{code}-GB"));
    let code = code_of(&wrong);
    let short = LONG.iter().find(|(long, _)| *long == code).map_or(code, |(_, short)| short);
    let wrong = wrong.replacen(code, short, 1);
    if let Ok(Spoken::Exactly(locale) | Spoken::Elsewhere(locale)) =
        Language::read(&wrong).map(|language| language.spoken())
    {
        return Some(locale);
    }
    let code = code_of(&wrong);
    let of_language = locales().find(|locale| code_of(locale) == code);
    // A country in place of a language: `cz`, `jp`, `us`.
    of_language.or_else(|| {
        locales().find(|locale| locale.rsplit('-').next().is_some_and(|last| last.eq_ignore_ascii_case(code)))
    })
}

/// The locales in which `<Say>` speaks.
pub fn locales() -> impl Iterator<Item = &'static str> {
    LOCALES.split(' ')
}

fn code_of(tag: &str) -> &str {
    tag.split('-').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_leads_to_a_locale_of_say() {
        for (tag, spoken) in [
            ("de", Spoken::Exactly("de-DE")),
            ("de-DE", Spoken::Exactly("de-DE")),
            ("de-at", Spoken::Exactly("de-AT")),
            ("de-CH", Spoken::Elsewhere("de-DE")),
            ("en", Spoken::Exactly("en-US")),
            ("en-GB-WLS", Spoken::Exactly("en-GB-WLS")),
            ("es-419", Spoken::Elsewhere("es-ES")),
            ("pt", Spoken::Exactly("pt-BR")),
            ("zh-Hans-CN", Spoken::Exactly("zh-CN")),
            ("zh-Hant", Spoken::Exactly("zh-CN")),
            ("arb", Spoken::Exactly("arb")),
            ("no", Spoken::Exactly("nb-NO")),
            ("hr", Spoken::Never),
            ("hr-HR", Spoken::Never),
            ("haw", Spoken::Never),
        ] {
            assert_eq!(Language::read(tag).unwrap().spoken(), spoken, "{tag}");
        }
        for locale in locales() {
            assert_eq!(Language::read(locale).unwrap().spoken(), Spoken::Exactly(locale));
        }
    }

    #[test]
    fn a_transcription_gets_the_code_that_models_know() {
        for (tag, code) in [("de-CH", "de"), ("cmn-CN", "zh"), ("nb-NO", "no"), ("fil", "tl"), ("haw", "haw")]
        {
            assert_eq!(Language::read(tag).unwrap().code(), code, "{tag}");
        }
    }

    #[test]
    fn the_page_lists_every_locale_and_every_language_with_words() {
        let page = include_str!("schema/opening.md");
        let locales: Vec<&str> = locales().collect();
        let listed = format!("It speaks:\n\n`{}`.\n", locales.join("`, `"));
        assert!(page.replace(",\n`", ", `").contains(&listed), "{listed}");
        for words in &words::ALL {
            assert!(
                page.contains(&format!("{} (`{}`)", words.name, code_of(words.locale))),
                "{}",
                words.name
            );
        }
    }

    #[test]
    fn what_is_no_language_gets_a_suggestion() {
        for (wrong, why, meant) in [
            ("en-UK", NoLanguage::Code, Some("en-GB")),
            ("xx-YY", NoLanguage::Code, None),
            ("xx", NoLanguage::Code, None),
            ("de-XX", NoLanguage::Code, Some("de-DE")),
            ("deu", NoLanguage::Code, Some("de-DE")),
            ("ger-AT", NoLanguage::Code, Some("de-AT")),
            ("jp", NoLanguage::Code, Some("ja-JP")),
            ("cz", NoLanguage::Code, Some("cs-CZ")),
            ("EN", NoLanguage::Form, Some("en-US")),
            ("en_US", NoLanguage::Form, Some("en-US")),
            ("en_GB", NoLanguage::Form, Some("en-GB")),
            ("German", NoLanguage::Form, Some("de-DE")),
            ("gibberish", NoLanguage::Form, None),
            ("", NoLanguage::Form, None),
        ] {
            assert_eq!(Language::read(wrong), Err(why), "{wrong}");
            assert_eq!(suggestion(wrong), meant, "{wrong}");
        }
    }
}
