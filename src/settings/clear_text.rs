//! Addresses to which credentials go, and what callers say, in clear text: whoever is on the way can read them.

use url::Url;

use super::reader::Reader;
use super::{FILE, Settings, is_loopback};
use crate::problem::Problem;

impl Settings {
    /// A warning for each such address that is not this machine's own. They work: the way there may be a private network.
    pub(super) fn in_clear_text(&self, reader: &Reader) -> Vec<Problem> {
        let own = [
            ("OPENAI_REALTIME_URL", &self.openai_realtime_url, "wss"),
            (TWILIO, &self.twilio_api_url, "https"),
        ];
        let own = own
            .into_iter()
            .filter_map(|(name, url, safe)| of(name, url, safe, |message| reader.about(name, CODE, message)));
        let named = self.named_providers.iter().filter_map(|provider| {
            let name = format!("`url` of `{}`", provider.name);
            of(&name, &provider.url, "wss", |message| Problem::about(FILE, CODE, message))
        });
        own.chain(named).collect()
    }

    /// The one of Twilio's REST interface, for whoever asks nothing else.
    pub fn twilio_in_clear_text(&self) -> Option<&Problem> {
        let of_twilio = |warning: &&Problem| warning.code() == CODE && warning.message().starts_with(TWILIO);
        self.warnings.iter().find(of_twilio)
    }
}

const CODE: &str = "setting.clear_text";
const TWILIO: &str = "TWILIO_API_URL";

/// `safe`: the scheme that it should begin with. `about`: a problem with its place.
fn of(name: &str, url: &str, safe: &str, about: impl Fn(&str) -> Problem) -> Option<Problem> {
    let url = Url::parse(url).ok().filter(|url| url.scheme() != safe && !is_loopback(url))?;
    let what = if safe == "wss" { "the key and what callers say" } else { "the account's credentials" };
    let message = format!("{name} starts with {}://: {what} go there in clear text", url.scheme());
    let help = format!("write {safe}://, unless nobody else can be on the way there");
    Some(about(&message).help(help).into_warning())
}

#[cfg(test)]
mod tests {
    use crate::settings::{Settings, Sources};
    use crate::yaml::SourceFile;

    #[test]
    fn what_would_be_open_to_everybody_on_the_way_is_told() {
        let file = "providers: { lan: { url: \"ws://192.0.2.3/v1\" }, own: { url: \"ws://[::1]:8000\" } }\n";
        let environment = [
            ("OPENAI_REALTIME_URL", "ws://model.example.com/v1"),
            ("TWILIO_API_URL", "http://192.0.2.2:8080"),
            ("OPENAI_API_KEY", "sk-1234567"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let file = Some(SourceFile::new("switchboard.yaml", file));
        let settings = Settings::read(&Sources { file, environment }).unwrap();
        let told: Vec<_> = settings.warnings.iter().map(|warning| warning.message()).collect();
        assert_eq!(
            told,
            [
                "OPENAI_REALTIME_URL starts with ws://: the key and what callers say go there in clear text",
                "TWILIO_API_URL starts with http://: the account's credentials go there in clear text",
                "`url` of `lan` starts with ws://: the key and what callers say go there in clear text",
            ]
        );
        for (name, url) in [
            ("OPENAI_REALTIME_URL", "wss://model.example.com/v1"),
            ("OPENAI_REALTIME_URL", "ws://localhost:8000/v1"),
            ("TWILIO_API_URL", "http://127.0.0.1:8080"),
            ("TWILIO_API_URL", "https://api.twilio.com"),
        ] {
            let environment = [(name.to_owned(), url.to_owned())].into();
            let settings = Settings::read(&Sources { file: None, environment }).unwrap();
            assert!(settings.warnings.is_empty(), "{url}: {:?}", settings.warnings);
        }
    }
}
