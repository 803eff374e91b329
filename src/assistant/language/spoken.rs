//! Amounts, times and spelled names, written so that a voice reads them as people say them in each language.

use jiff::Zoned;

use super::Words;

/// By ISO 639-1 code and ISO 4217 code: one, several, and in Polish two to four and a fraction.
const CURRENCIES: [(&str, [(&str, &str); 5]); 8] = [
    (
        "en",
        [
            ("euro", "euros"),
            ("dollar", "dollars"),
            ("pound", "pounds"),
            ("franc", "francs"),
            ("zloty", "zlotys"),
        ],
    ),
    (
        "de",
        [
            ("Euro", "Euro"),
            ("Dollar", "Dollar"),
            ("Pfund", "Pfund"),
            ("Franken", "Franken"),
            ("Złoty", "Złoty"),
        ],
    ),
    (
        "fr",
        [
            ("euro", "euros"),
            ("dollar", "dollars"),
            ("livre", "livres"),
            ("franc", "francs"),
            ("zloty", "zlotys"),
        ],
    ),
    (
        "es",
        [
            ("euro", "euros"),
            ("dólar", "dólares"),
            ("libra", "libras"),
            ("franco", "francos"),
            ("esloti", "eslotis"),
        ],
    ),
    (
        "it",
        [
            ("euro", "euro"),
            ("dollaro", "dollari"),
            ("sterlina", "sterline"),
            ("franco", "franchi"),
            ("złoty", "złoty"),
        ],
    ),
    (
        "pt",
        [
            ("euro", "euros"),
            ("dólar", "dólares"),
            ("libra", "libras"),
            ("franco", "francos"),
            ("zlóti", "zlótis"),
        ],
    ),
    (
        "nl",
        [("euro", "euro"), ("dollar", "dollar"), ("pond", "pond"), ("frank", "frank"), ("złoty", "złoty")],
    ),
    (
        "pl",
        [
            ("euro", "euro"),
            ("dolar", "dolarów"),
            ("funt", "funtów"),
            ("frank", "franków"),
            ("złoty", "złotych"),
        ],
    ),
];
/// In the order of [`CURRENCIES`].
const CODES: [&str; 5] = ["EUR", "USD", "GBP", "CHF", "PLN"];
/// Polish for two to four, and for a fraction.
const POLISH: [(&str, &str); 5] =
    [("euro", "euro"), ("dolary", "dolara"), ("funty", "funta"), ("franki", "franka"), ("złote", "złotego")];

impl Words {
    /// An amount, such as `12.50 euros` or `12,50 Euro`. `None`: a currency that has no name here.
    pub fn money(&self, amount: f64, currency: &str) -> Option<String> {
        let at = CODES.iter().position(|code| *code == currency)?;
        let (one, several) = CURRENCIES.iter().find(|(code, _)| *code == self.code())?.1[at];
        let cents = (amount * 100.0).round() as i64;
        let (whole, rest) = (cents / 100, (cents % 100).abs());
        let point = if self.code() == "en" { '.' } else { ',' };
        let sign = if cents < 0 && whole == 0 { "-" } else { "" };
        let number = if rest == 0 { format!("{whole}") } else { format!("{sign}{whole}{point}{rest:02}") };
        let name = match (self.code(), whole.abs(), rest) {
            ("pl", _, 1..) => POLISH[at].1,
            ("pl", n, 0) if (2..=4).contains(&(n % 10)) && !(12..=14).contains(&(n % 100)) => POLISH[at].0,
            // French counts less than two as one.
            ("fr", 0 | 1, _) | (_, 1, 0) => one,
            _ => several,
        };
        Some(format!("{number} {name}"))
    }

    /// A time of the day, such as `2:30 pm`, `14 Uhr 30` or `14 h 30`.
    pub fn clock(&self, when: &Zoned) -> String {
        let (hour, minute) = (when.hour(), when.minute());
        match (self.code(), minute) {
            ("en", 0) => format!("{} {}", half(hour), day_half(hour)),
            ("en", _) => format!("{}:{minute:02} {}", half(hour), day_half(hour)),
            ("de", 0) => format!("{hour} Uhr"),
            ("de", _) => format!("{hour} Uhr {minute}"),
            ("fr", 0) => format!("{hour} h"),
            ("fr", _) => format!("{hour} h {minute:02}"),
            ("nl", _) => format!("{hour}:{minute:02} uur"),
            _ => format!("{hour}:{minute:02}"),
        }
    }
}

/// A name letter by letter: `Ö, Z, D, E, M, I, R`. What separates words becomes a longer pause.
pub fn letters(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        let letters = word.chars().flat_map(|letter| {
            // It has no capital that is one letter.
            if letter == 'ß' { vec![letter] } else { letter.to_uppercase().collect() }
        });
        letters.map(String::from).collect::<Vec<_>>().join(", ")
    });
    words.collect::<Vec<_>>().join("; ")
}

fn half(hour: i8) -> i8 {
    if hour % 12 == 0 { 12 } else { hour % 12 }
}

fn day_half(hour: i8) -> &'static str {
    if hour < 12 { "am" } else { "pm" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_said_in_each_language() {
        for (language, amount, currency, said) in [
            ("en", 12.5, "EUR", "12.50 euros"),
            ("en", 1.0, "USD", "1 dollar"),
            ("en", 0.0, "GBP", "0 pounds"),
            ("en", -0.5, "EUR", "-0.50 euros"),
            ("de", 12.5, "EUR", "12,50 Euro"),
            ("fr", 1.5, "EUR", "1,50 euro"),
            ("fr", 2.0, "CHF", "2 francs"),
            ("es", 3.0, "USD", "3 dólares"),
            ("it", 1.0, "GBP", "1 sterlina"),
            ("pt", 7.25, "EUR", "7,25 euros"),
            ("nl", 19.99, "EUR", "19,99 euro"),
            ("pl", 1.0, "PLN", "1 złoty"),
            ("pl", 3.0, "PLN", "3 złote"),
            ("pl", 5.0, "PLN", "5 złotych"),
            ("pl", 12.0, "PLN", "12 złotych"),
            ("pl", 22.0, "PLN", "22 złote"),
            ("pl", 2.5, "PLN", "2,50 złotego"),
        ] {
            let words = Words::of(language).unwrap();
            assert_eq!(words.money(amount, currency).as_deref(), Some(said), "{language}");
        }
        assert_eq!(Words::ENGLISH.money(1.0, "XYZ"), None);
        for words in &super::super::ALL {
            for code in CODES {
                assert!(words.money(2.0, code).is_some(), "{} {code}", words.name);
            }
        }
    }

    #[test]
    fn times_are_said_in_each_language() {
        let at = |text: &str| {
            text.parse::<jiff::civil::DateTime>().unwrap().to_zoned(jiff::tz::TimeZone::UTC).unwrap()
        };
        for (language, time, said) in [
            ("en", "2026-11-30T14:30", "2:30 pm"),
            ("en", "2026-11-30T00:05", "12:05 am"),
            ("en", "2026-11-30T12:00", "12 pm"),
            ("de", "2026-11-30T14:30", "14 Uhr 30"),
            ("de", "2026-11-30T09:00", "9 Uhr"),
            ("fr", "2026-11-30T14:05", "14 h 05"),
            ("nl", "2026-11-30T14:30", "14:30 uur"),
            ("pl", "2026-11-30T14:30", "14:30"),
        ] {
            assert_eq!(Words::of(language).unwrap().clock(&at(time)), said);
        }
    }

    #[test]
    fn names_are_spelled() {
        assert_eq!(letters("Özdemir"), "Ö, Z, D, E, M, I, R");
        assert_eq!(letters("Groß Meier"), "G, R, O, ß; M, E, I, E, R");
    }
}
