//! What we have in each language: the sentences that Twilio's voice says if a file gives none, and the words of dates and
//! lists.
//!
//! The sentences address the caller formally, as a company's telephone does.

use jiff::Zoned;
use jiff::fmt::strtime;

use super::code_of;
use super::labels::{self, Labels};
use crate::assistant::formats;

/// The words of one language.
#[derive(Debug, PartialEq, Eq)]
pub struct Words {
    /// ISO 639-1.
    code: &'static str,
    /// In English, as a model understands it.
    pub name: &'static str,
    /// The locale in which `<Say>` speaks these sentences.
    pub locale: &'static str,
    /// There are too many calls.
    pub busy: &'static str,
    /// The call is recorded. It stands in for a notice that cannot be said.
    pub recorded: &'static str,
    /// Something went wrong.
    pub sorry: &'static str,
    /// Something went wrong, and a person is dialed.
    pub connecting: &'static str,
    /// A stream has ended, and nothing is known about its call.
    pub lost: &'static str,
    /// No assistant answers the number.
    pub not_in_use: &'static str,
    /// The assistant needs a moment. Its own voice says this one and the next: see [`Sounds`](crate::assistant::plan::Sounds).
    pub moment: &'static str,
    /// The assistant is back after an interruption of its connection.
    pub cut_off: &'static str,
    /// Before the last item of a list.
    and: &'static str,
    /// Monday first, separated by spaces, as all names here.
    days: &'static str,
    short_days: &'static str,
    /// As they follow a day: `3 marca`.
    months: &'static str,
    short_months: &'static str,
    /// As they stand alone, if that differs: `marzec`.
    lone_months: Option<&'static str>,
    /// A whole date, in the codes of strftime.
    date: &'static str,
    /// The first of a month, if it is not `1`.
    first: Option<&'static str>,
    /// Of what owners read.
    pub labels: &'static Labels,
}

/// A time of day: all of these languages write and speak 24 hours.
const TIME: &str = "%H:%M";

/// English first. It stands in for languages that are not here.
pub static ALL: [Words; 8] = [
    Words {
        code: "en",
        name: "English",
        locale: super::ENGLISH,
        busy: "All lines are busy. Please call again later.",
        recorded: "This call is recorded.",
        sorry: "Sorry, something went wrong. Please call again.",
        connecting: "Sorry, something went wrong. One moment, please, while we connect you.",
        lost: "Sorry, something went wrong. Please call again later. Goodbye.",
        not_in_use: "Sorry, this number is not in use. Goodbye.",
        moment: "One moment, please.",
        cut_off: "Sorry, we were cut off for a moment.",
        and: "and",
        days: "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
        short_days: "Mon Tue Wed Thu Fri Sat Sun",
        months: "January February March April May June July August September October November December",
        short_months: "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
        lone_months: None,
        date: "%A, %-d %B %Y",
        first: None,
        labels: &labels::EN,
    },
    Words {
        code: "de",
        name: "German",
        locale: "de-DE",
        busy: "Leider sind gerade alle Leitungen belegt. Bitte rufen Sie später noch einmal an.",
        recorded: "Dieses Gespräch wird aufgezeichnet.",
        sorry: "Es tut uns leid, es ist ein Fehler aufgetreten. Bitte rufen Sie noch einmal an.",
        connecting: "Es tut uns leid, es ist ein Fehler aufgetreten. Einen Moment bitte, wir verbinden Sie.",
        lost: "Es tut uns leid, es ist ein Fehler aufgetreten. Bitte rufen Sie später noch einmal an. Auf Wiederhören.",
        not_in_use: "Diese Rufnummer ist leider nicht vergeben. Auf Wiederhören.",
        moment: "Einen Moment bitte.",
        cut_off: "Entschuldigung, wir waren kurz unterbrochen.",
        and: "und",
        days: "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
        short_days: "Mo Di Mi Do Fr Sa So",
        months: "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
        short_months: "Jan. Feb. März Apr. Mai Juni Juli Aug. Sept. Okt. Nov. Dez.",
        lone_months: None,
        date: "%A, %-d. %B %Y",
        first: None,
        labels: &labels::DE,
    },
    Words {
        code: "fr",
        name: "French",
        locale: "fr-FR",
        busy: "Toutes nos lignes sont actuellement occupées. Merci de rappeler un peu plus tard.",
        recorded: "Cet appel est enregistré.",
        sorry: "Nous sommes désolés, un problème est survenu. Merci de nous rappeler dans quelques instants.",
        connecting: "Nous sommes désolés, un problème est survenu. Un instant, s'il vous plaît, nous transférons votre appel.",
        lost: "Nous sommes désolés, un problème est survenu. Merci de rappeler un peu plus tard. Au revoir.",
        not_in_use: "Le numéro que vous avez composé n'est pas attribué. Au revoir.",
        moment: "Un instant, s'il vous plaît.",
        cut_off: "Excusez-moi, nous avons été coupés un instant.",
        and: "et",
        days: "lundi mardi mercredi jeudi vendredi samedi dimanche",
        short_days: "lun. mar. mer. jeu. ven. sam. dim.",
        months: "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        short_months: "janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc.",
        lone_months: None,
        date: "%A %-d %B %Y",
        first: Some("1er"),
        labels: &labels::FR,
    },
    Words {
        code: "es",
        name: "Spanish",
        locale: "es-ES",
        busy: "En este momento todas nuestras líneas están ocupadas. Por favor, vuelva a llamar más tarde.",
        recorded: "Esta llamada se graba.",
        sorry: "Lo sentimos, se ha producido un error. Por favor, vuelva a llamar.",
        connecting: "Lo sentimos, se ha producido un error. Un momento, por favor, transferimos su llamada.",
        lost: "Lo sentimos, se ha producido un error. Por favor, vuelva a llamar más tarde. Adiós.",
        not_in_use: "Lo sentimos, el número al que llama no está en servicio. Adiós.",
        moment: "Un momento, por favor.",
        cut_off: "Disculpe, se ha cortado un momento.",
        and: "y",
        days: "lunes martes miércoles jueves viernes sábado domingo",
        short_days: "lun mar mié jue vie sáb dom",
        months: "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        short_months: "ene feb mar abr may jun jul ago sept oct nov dic",
        lone_months: None,
        date: "%A, %-d de %B de %Y",
        first: None,
        labels: &labels::ES,
    },
    Words {
        code: "it",
        name: "Italian",
        locale: "it-IT",
        busy: "In questo momento tutte le linee sono occupate. La preghiamo di richiamare più tardi.",
        recorded: "Questa chiamata viene registrata.",
        sorry: "Ci scusiamo, si è verificato un problema. La preghiamo di richiamare.",
        connecting: "Ci scusiamo, si è verificato un problema. Resti in linea, trasferiamo la Sua chiamata.",
        lost: "Ci scusiamo, si è verificato un problema. La preghiamo di richiamare più tardi. Arrivederci.",
        not_in_use: "Siamo spiacenti, il numero da Lei chiamato non è attivo. Arrivederci.",
        moment: "Un momento, per favore.",
        cut_off: "Mi scusi, la linea si è interrotta per un momento.",
        and: "e",
        days: "lunedì martedì mercoledì giovedì venerdì sabato domenica",
        short_days: "lun mar mer gio ven sab dom",
        months: "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
        short_months: "gen feb mar apr mag giu lug ago set ott nov dic",
        lone_months: None,
        date: "%A %-d %B %Y",
        first: Some("1º"),
        labels: &labels::IT,
    },
    Words {
        code: "pt",
        name: "Portuguese",
        locale: "pt-BR",
        busy: "No momento, todas as nossas linhas estão ocupadas. Por favor, ligue novamente mais tarde.",
        recorded: "Esta chamada é gravada.",
        sorry: "Desculpe, ocorreu um erro. Por favor, ligue novamente.",
        connecting: "Desculpe, ocorreu um erro. Um momento, por favor, vamos transferir a sua ligação.",
        lost: "Desculpe, ocorreu um erro. Por favor, ligue novamente mais tarde. Até logo.",
        not_in_use: "Desculpe, este número não está em serviço. Até logo.",
        moment: "Um momento, por favor.",
        cut_off: "Desculpe, a ligação caiu por um momento.",
        and: "e",
        days: "segunda-feira terça-feira quarta-feira quinta-feira sexta-feira sábado domingo",
        short_days: "seg ter qua qui sex sáb dom",
        months: "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
        short_months: "jan fev mar abr mai jun jul ago set out nov dez",
        lone_months: None,
        date: "%A, %-d de %B de %Y",
        first: Some("1º"),
        labels: &labels::PT,
    },
    Words {
        code: "nl",
        name: "Dutch",
        locale: "nl-NL",
        busy: "Al onze lijnen zijn op dit moment bezet. Probeert u het later alstublieft nog eens.",
        recorded: "Dit gesprek wordt opgenomen.",
        sorry: "Onze excuses, er is iets misgegaan. Belt u ons alstublieft nog een keer.",
        connecting: "Onze excuses, er is iets misgegaan. Een ogenblik alstublieft, wij verbinden u door.",
        lost: "Onze excuses, er is iets misgegaan. Probeert u het later alstublieft nog eens. Goedendag.",
        not_in_use: "Het nummer dat u heeft gebeld, is niet in gebruik. Goedendag.",
        moment: "Een ogenblik, alstublieft.",
        cut_off: "Excuses, de verbinding was even weg.",
        and: "en",
        days: "maandag dinsdag woensdag donderdag vrijdag zaterdag zondag",
        short_days: "ma di wo do vr za zo",
        months: "januari februari maart april mei juni juli augustus september oktober november december",
        short_months: "jan feb mrt apr mei jun jul aug sep okt nov dec",
        lone_months: None,
        date: "%A %-d %B %Y",
        first: None,
        labels: &labels::NL,
    },
    Words {
        code: "pl",
        name: "Polish",
        locale: "pl-PL",
        busy: "Wszystkie linie są w tej chwili zajęte. Prosimy zadzwonić później.",
        recorded: "Ta rozmowa jest nagrywana.",
        sorry: "Przepraszamy, wystąpił błąd. Prosimy zadzwonić ponownie.",
        connecting: "Przepraszamy, wystąpił błąd. Prosimy chwilę zaczekać, łączymy rozmowę.",
        lost: "Przepraszamy, wystąpił błąd. Prosimy zadzwonić później. Do usłyszenia.",
        not_in_use: "Przepraszamy, ten numer jest nieczynny. Do usłyszenia.",
        moment: "Chwileczkę, proszę.",
        cut_off: "Przepraszam, na chwilę nas rozłączyło.",
        and: "i",
        days: "poniedziałek wtorek środa czwartek piątek sobota niedziela",
        short_days: "pon. wt. śr. czw. pt. sob. niedz.",
        months: "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada grudnia",
        short_months: "sty lut mar kwi maj cze lip sie wrz paź lis gru",
        lone_months: Some(
            "styczeń luty marzec kwiecień maj czerwiec lipiec sierpień wrzesień październik listopad grudzień",
        ),
        date: "%A, %-d %B %Y",
        first: None,
        labels: &labels::PL,
    },
];

impl Words {
    pub const ENGLISH: &Words = &ALL[0];

    /// The words of a tag's language.
    /// ISO 639-1.
    pub fn code(&self) -> &'static str {
        self.code
    }

    pub fn of(tag: &str) -> Option<&'static Words> {
        ALL.iter().find(|words| words.code == code_of(tag))
    }

    /// `Monday, 3 March 2026`
    pub fn date(&self, when: &Zoned) -> String {
        let day = self.first.filter(|_| when.day() == 1).unwrap_or("%-d");
        self.format(&self.date.replace("%-d", day), when).unwrap_or_default()
    }

    /// `14:05`
    pub fn time(&self, when: &Zoned) -> String {
        self.format(TIME, when).unwrap_or_default()
    }

    /// A moment in the codes of strftime, with the days and months of this language.
    ///
    /// # Errors
    /// A code that does not exist.
    pub fn format(&self, format: &str, when: &Zoned) -> Result<String, jiff::Error> {
        let has_day = formats::codes(format).any(|(_, letter)| matches!(letter, Some('d' | 'e')));
        let mut named = String::with_capacity(format.len() + 16);
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            named.push_str(&rest[..at]);
            let (code, letter) = formats::code(&rest[at..]);
            rest = &rest[at + code.len()..];
            match letter.and_then(|letter| self.named(letter, has_day, when)) {
                Some(name) if code.contains('^') => named.push_str(&name.to_uppercase()),
                Some(name) => named.push_str(name),
                None => named.push_str(code),
            }
        }
        named.push_str(rest);
        strtime::format(&named, when)
    }

    /// The name that a code stands for. `has_day`: the format prints the day of the month, too.
    fn named(&self, letter: char, has_day: bool, when: &Zoned) -> Option<&'static str> {
        let day = when.weekday().to_monday_zero_offset() as usize;
        let month = when.month() as usize - 1;
        let months = self.lone_months.filter(|_| !has_day).unwrap_or(self.months);
        let (names, at) = match letter {
            'A' => (self.days, day),
            'a' => (self.short_days, day),
            'B' => (months, month),
            'b' | 'h' => (self.short_months, month),
            _ => return None,
        };
        names.split(' ').nth(at)
    }

    /// The word before the last item of a list. In Spanish `y` becomes `e` before the sound of an i, as in
    /// `padres e hijos`, but not in `agua y hielo`.
    pub fn and(&self, last: &str) -> &'static str {
        let last = last.trim_start().to_lowercase();
        let sound = last.strip_prefix('h').unwrap_or(&last);
        match self.code == "es" && sound.starts_with(['i', 'í']) && !last.starts_with("hie") {
            true => "e",
            false => self.and,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use jiff::tz::TimeZone;

    use super::*;
    use crate::assistant::language::locales;
    use crate::wire::twilio::twiml;

    #[test]
    fn dates_read_as_people_write_them() {
        let third = date(2026, 3, 3).at(14, 5, 0, 0).to_zoned(TimeZone::UTC).unwrap();
        let first = date(2026, 3, 1).at(9, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap();
        for (code, on_third, on_first) in [
            ("en", "Tuesday, 3 March 2026", "Sunday, 1 March 2026"),
            ("de", "Dienstag, 3. März 2026", "Sonntag, 1. März 2026"),
            ("fr", "mardi 3 mars 2026", "dimanche 1er mars 2026"),
            ("es", "martes, 3 de marzo de 2026", "domingo, 1 de marzo de 2026"),
            ("it", "martedì 3 marzo 2026", "domenica 1º marzo 2026"),
            ("pt", "terça-feira, 3 de março de 2026", "domingo, 1º de março de 2026"),
            ("nl", "dinsdag 3 maart 2026", "zondag 1 maart 2026"),
            ("pl", "wtorek, 3 marca 2026", "niedziela, 1 marca 2026"),
        ] {
            let words = Words::of(code).unwrap();
            assert_eq!((words.date(&third), words.date(&first)), (on_third.to_owned(), on_first.to_owned()));
            assert_eq!(words.time(&third), "14:05");
        }
    }

    #[test]
    fn a_format_names_days_and_months_in_the_language() {
        let when = date(2026, 3, 3).at(14, 5, 0, 0).to_zoned(TimeZone::UTC).unwrap();
        for (code, format, text) in [
            ("pl", "%-d %B", "3 marca"),
            ("pl", "%_d %B", " 3 marca"),
            ("pl", "%0d %B", "03 marca"),
            ("pl", "%02d %B", "03 marca"),
            ("pl", "%-e %B", "3 marca"),
            ("pl", "%B %Y", "marzec 2026"),
            ("de", "%010A", "Dienstag"),
            ("pl", "%a %d %b", "wt. 03 mar"),
            ("de", "%^A, 100 %%", "DIENSTAG, 100 %"),
            ("de", "%d.%m.%y um %-H Uhr", "03.03.26 um 14 Uhr"),
            ("en", "%A %e %h %I:%M %p", "Tuesday  3 Mar 02:05 PM"),
        ] {
            assert_eq!(Words::of(code).unwrap().format(format, &when).unwrap(), text, "{code}: {format}");
        }
        assert!(Words::ENGLISH.format("%", &when).is_err());
        assert!(Words::ENGLISH.format("%!", &when).is_err());
    }

    #[test]
    fn the_word_before_the_last_item_follows_its_sound() {
        for (code, last, word) in [
            ("es", "Inés", "e"),
            ("es", "Íñigo", "e"),
            ("es", "hijos", "e"),
            ("es", "hielo", "y"),
            ("es", "Hugo", "y"),
            ("es", "Yolanda", "y"),
            ("it", "Ivo", "e"),
            ("de", "Ines", "und"),
        ] {
            assert_eq!(Words::of(code).unwrap().and(last), word, "{code}: {last}");
        }
    }

    #[test]
    fn every_language_has_a_locale_and_sentences_of_its_own_that_twilio_takes() {
        let mut seen = std::collections::BTreeSet::new();
        for words in &ALL {
            assert!(
                locales().any(|locale| locale == words.locale) && words.locale.starts_with(words.code),
                "{}",
                words.name
            );
            assert_eq!(Words::of(words.locale), Some(words));
            for (names, count) in [
                (words.days, 7),
                (words.short_days, 7),
                (words.months, 12),
                (words.short_months, 12),
                (words.lone_months.unwrap_or(words.months), 12),
            ] {
                assert_eq!(names.split(' ').count(), count, "{names}");
            }
            let Words { busy, recorded, sorry, connecting, lost, not_in_use, moment, cut_off, .. } = *words;
            for sentence in [busy, recorded, sorry, connecting, lost, not_in_use, moment, cut_off] {
                assert_eq!(twiml::sayable(sentence), Ok(()), "{sentence}");
                assert!(seen.insert(sentence), "{sentence}");
            }
        }
        assert_eq!(Words::of("cs"), None);
    }
}
