//! What models and the carrier charge.
//!
//! The vendors' public prices of [`DATE`] are defaults, which `prices:` in `switchboard.yaml` changes. Amounts are whole
//! millionths of a dollar, and sums are exact.

use std::collections::BTreeMap;

use super::usage::{Tokens, Transcribed};

/// When the built-in prices were read from the vendors' pages.
pub const DATE: &str = "2026-11-30";

/// Dollars for a million tokens or for a minute, in millionths of a dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Price(u64);

/// A sum of money, in millionths of a millionth of a dollar: one token at [`Price`] 1 costs 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(u128);

/// What one model charges. `None`: it has no such price.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ModelPrices {
    pub text_in: Option<Price>,
    /// `None` for a cached price: as what is not cached.
    pub text_in_cached: Option<Price>,
    pub audio_in: Option<Price>,
    pub audio_in_cached: Option<Price>,
    pub image_in: Option<Price>,
    pub image_in_cached: Option<Price>,
    pub text_out: Option<Price>,
    pub audio_out: Option<Price>,
    /// For a minute of a session, or of the audio that is transcribed. Tokens without a price are free then.
    pub minute: Option<Price>,
}

/// What the carrier charges per minute; each leg is rounded up to whole minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CarrierPrices {
    /// For a call that comes in.
    pub inbound: Price,
    /// For the leg to a person whom a call is transferred to.
    pub outbound: Price,
    /// For Media Streams, while a stream is open.
    pub streams: Price,
}

/// The prices in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prices {
    /// When they were read, for whoever sees a cost.
    pub date: String,
    pub carrier: CarrierPrices,
    /// The owner's, by the model's name, or by `provider/model`, which comes first.
    models: BTreeMap<String, ModelPrices>,
}

/// The provider whose models the built-in prices are for.
const BUILT_IN: &str = "openai";

impl Default for Prices {
    /// The built-in prices.
    fn default() -> Self {
        let carrier = CarrierPrices {
            inbound: Price::dollars(0.0085),
            outbound: Price::dollars(0.014),
            streams: Price::dollars(0.004),
        };
        Self { date: DATE.to_owned(), carrier, models: BTreeMap::new() }
    }
}

impl Prices {
    /// What a model of a provider costs; `None` if nobody said.
    pub fn of(&self, provider: &str, model: &str) -> Option<ModelPrices> {
        let own = [self.models.get(&format!("{provider}/{model}")), self.models.get(model)];
        let built_in = BUILT_IN_PRICES.iter().find(|(name, _)| provider == BUILT_IN && *name == model);
        let all = own.into_iter().flatten().chain(built_in.map(|(_, prices)| prices));
        all.copied().reduce(ModelPrices::or)
    }

    /// Sets the prices of a model of all providers, or of `provider/model`. What is `None` stays as it is.
    pub fn set(&mut self, name: &str, prices: ModelPrices) {
        self.models.insert(name.to_owned(), prices);
    }
}

impl Price {
    /// For example the dollars of a million tokens. Fractions below a millionth are rounded.
    pub const fn dollars(dollars: f64) -> Self {
        Self((dollars * 1e6 + 0.5) as u64)
    }

    /// The price of so many tokens.
    fn of_tokens(self, tokens: u64) -> Money {
        Money(u128::from(self.0) * u128::from(tokens))
    }

    /// The price of a part of a minute.
    pub fn of_ms(self, ms: u64) -> Money {
        Money(u128::from(self.0) * 1_000_000 * u128::from(ms) / 60_000)
    }

    /// The price of a leg that lasts this long: of every minute that began.
    pub fn of_minutes_begun(self, ms: u64) -> Money {
        self.of_ms(ms.max(1).div_ceil(60_000).saturating_mul(60_000))
    }
}

impl Money {
    /// Whole millionths of a dollar, rounded half up.
    pub fn micros(self) -> u64 {
        u64::try_from((self.0 + 500_000) / 1_000_000).unwrap_or(u64::MAX)
    }
}

impl std::ops::AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }
}

impl ModelPrices {
    /// The keys of `prices:`, one for each price.
    pub const KEYS: [&str; 9] = [
        "text_in",
        "text_in_cached",
        "audio_in",
        "audio_in_cached",
        "image_in",
        "image_in_cached",
        "text_out",
        "audio_out",
        "minute",
    ];

    /// The price of this key.
    pub fn field(&mut self, key: &str) -> Option<&mut Option<Price>> {
        let at = Self::KEYS.iter().position(|known| *known == key)?;
        self.fields().into_iter().nth(at)
    }

    fn fields(&mut self) -> [&mut Option<Price>; 9] {
        [
            &mut self.text_in,
            &mut self.text_in_cached,
            &mut self.audio_in,
            &mut self.audio_in_cached,
            &mut self.image_in,
            &mut self.image_in_cached,
            &mut self.text_out,
            &mut self.audio_out,
            &mut self.minute,
        ]
    }

    /// These prices, and the other's where these have none.
    fn or(mut self, mut other: Self) -> Self {
        for (own, other) in self.fields().into_iter().zip(other.fields()) {
            *own = own.or(*other);
        }
        self
    }

    /// What a response's tokens cost; `None` if a price is missing. What is cached is a part of what was read, and is
    /// charged once.
    pub fn tokens(&self, tokens: &Tokens) -> Option<Money> {
        let mut sum = self.read(tokens)?;
        for (count, price) in [(tokens.text_out, self.text_out), (tokens.audio_out, self.audio_out)] {
            sum += self.priced(count, price)?;
        }
        Some(sum)
    }

    /// What the tokens cost that the model read.
    pub fn read(&self, tokens: &Tokens) -> Option<Money> {
        let mut sum = Money::default();
        for (all, cached, price, cached_price) in [
            (tokens.text_in, tokens.text_in_cached, self.text_in, self.text_in_cached),
            (tokens.audio_in, tokens.audio_in_cached, self.audio_in, self.audio_in_cached),
            (tokens.image_in, tokens.image_in_cached, self.image_in, self.image_in_cached),
        ] {
            let cached = cached.min(all);
            sum += self.priced(all - cached, price)?;
            sum += self.priced(cached, cached_price.or(price))?;
        }
        Some(sum)
    }

    /// What a transcript costs; `None` if a price is missing.
    pub fn transcript(&self, used: &Transcribed) -> Option<Money> {
        match used {
            Transcribed::Seconds { seconds } => Some(self.minute?.of_ms((seconds * 1_000.0).round() as u64)),
            Transcribed::Tokens { tokens } => {
                let by_tokens = Self { minute: None, ..*self };
                by_tokens.tokens(tokens)
            }
        }
    }

    fn priced(&self, tokens: u64, price: Option<Price>) -> Option<Money> {
        match price {
            Some(price) => Some(price.of_tokens(tokens)),
            None => (tokens == 0 || self.minute.is_some()).then(Money::default),
        }
    }
}

/// A model that charges for tokens. Dollars for a million tokens: text in, cached, out; audio in, cached, out; images in,
/// cached.
const fn by_tokens(text: [f64; 3], audio: [f64; 3], images: [f64; 2]) -> ModelPrices {
    ModelPrices {
        text_in: Some(Price::dollars(text[0])),
        text_in_cached: Some(Price::dollars(text[1])),
        text_out: Some(Price::dollars(text[2])),
        audio_in: Some(Price::dollars(audio[0])),
        audio_in_cached: Some(Price::dollars(audio[1])),
        audio_out: Some(Price::dollars(audio[2])),
        image_in: Some(Price::dollars(images[0])),
        image_in_cached: Some(Price::dollars(images[1])),
        minute: None,
    }
}

/// A model that charges for time: dollars for a minute.
const fn by_time(minute: f64) -> ModelPrices {
    ModelPrices {
        text_in: None,
        text_in_cached: None,
        audio_in: None,
        audio_in_cached: None,
        image_in: None,
        image_in_cached: None,
        text_out: None,
        audio_out: None,
        minute: Some(Price::dollars(minute)),
    }
}

/// The prices of OpenAI's models on [`DATE`].
const BUILT_IN_PRICES: [(&str, ModelPrices); 9] = [
    ("gpt-realtime-2.1", by_tokens([4.0, 0.4, 24.0], [32.0, 0.4, 64.0], [5.0, 0.5])),
    ("gpt-realtime-2", by_tokens([4.0, 0.4, 24.0], [32.0, 0.4, 64.0], [5.0, 0.5])),
    ("gpt-realtime-2.1-mini", by_tokens([0.6, 0.06, 2.4], [10.0, 0.3, 20.0], [0.8, 0.08])),
    ("gpt-realtime-1.5", by_tokens([4.0, 0.4, 16.0], [32.0, 0.4, 64.0], [5.0, 0.5])),
    ("gpt-live-1", by_time(0.05)),
    ("gpt-live-1.1", by_time(0.05)),
    ("gpt-realtime-whisper", by_time(0.017)),
    ("gpt-live-transcribe", by_time(0.017)),
    ("gpt-transcribe", by_time(0.006)),
];

/// The built-in prices as a table for the docs.
pub fn markdown() -> String {
    use std::fmt::Write as _;
    let shown = |price: Option<Price>| match price {
        Some(Price(micros)) => format!("{}", micros as f64 / 1e6),
        None => "–".to_owned(),
    };
    let mut table = format!("| model | {} |\n", ModelPrices::KEYS.map(|key| format!("`{key}`")).join(" | "));
    let _ = writeln!(table, "| --- |{}", " --- |".repeat(ModelPrices::KEYS.len()));
    for (name, mut prices) in BUILT_IN_PRICES {
        let prices = prices.fields().map(|price| shown(*price)).join(" | ");
        let _ = writeln!(table, "| `{name}` | {prices} |");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str) -> ModelPrices {
        Prices::default().of("openai", name).unwrap()
    }

    #[test]
    fn what_is_cached_is_charged_once() {
        let tokens = Tokens { text_in: 1_000, text_in_cached: 600, ..Tokens::default() };
        // 400 at 4.00 and 600 at 0.40 for a million.
        assert_eq!(model("gpt-realtime-2.1").tokens(&tokens), Some(Money(400 * 4_000_000 + 600 * 400_000)));
        let more = Tokens { text_in: 10, text_in_cached: 20, ..Tokens::default() };
        assert_eq!(
            model("gpt-realtime-2.1").tokens(&more),
            Some(Money(10 * 400_000)),
            "more than all is not cached"
        );
    }

    #[test]
    fn every_default_model_has_a_price() {
        let prices = Prices::default();
        for name in [crate::provider::DEFAULT_MODEL, crate::provider::DEFAULT_TRANSCRIPTION] {
            assert!(prices.of("openai", name).is_some(), "{name}");
        }
        assert_eq!(prices.of("azure", "gpt-realtime-2.1"), None, "others may charge something else");
    }

    #[test]
    fn an_owners_price_replaces_the_built_in_one_and_holds_for_every_provider() {
        let mut prices = Prices::default();
        let cheaper = ModelPrices { text_in: Some(Price::dollars(1.0)), ..ModelPrices::default() };
        prices.set("gpt-realtime-2.1", cheaper);
        prices.set("azure/gpt-realtime-2.1", ModelPrices { text_in: Some(Price::dollars(2.0)), ..cheaper });
        prices.set("reception", cheaper);
        let text_in = |provider: &str, model: &str| prices.of(provider, model).and_then(|it| it.text_in);
        assert_eq!(text_in("openai", "gpt-realtime-2.1"), Some(Price(1_000_000)));
        assert_eq!(text_in("azure", "gpt-realtime-2.1"), Some(Price(2_000_000)));
        assert_eq!(text_in("local", "gpt-realtime-2.1"), Some(Price(1_000_000)));
        assert_eq!(text_in("local", "reception"), Some(Price(1_000_000)));
        let rest = prices.of("openai", "gpt-realtime-2.1").unwrap();
        assert_eq!(rest.audio_in, Some(Price(32_000_000)), "what is not set stays");
    }

    #[test]
    fn a_leg_is_rounded_up_to_whole_minutes() {
        let price = Price::dollars(0.0085);
        for (ms, micros) in
            [(0, 8_500), (1, 8_500), (60_000, 8_500), (60_001, 17_000), (119_999, 17_000), (120_001, 25_500)]
        {
            assert_eq!(price.of_minutes_begun(ms).micros(), micros, "{ms} ms");
        }
    }

    #[test]
    fn a_kind_without_a_price_makes_the_sum_unknown() {
        let half = ModelPrices { text_in: Some(Price::dollars(1.0)), ..ModelPrices::default() };
        assert_eq!(half.tokens(&Tokens { audio_out: 1, ..Tokens::default() }), None);
        assert_eq!(
            half.tokens(&Tokens { text_in: 1, text_in_cached: 1, ..Tokens::default() }),
            Some(Money(1_000_000)),
            "a cached price is the other one, if there is none"
        );
        let used = Transcribed::Tokens { tokens: Tokens { audio_in: 1, ..Tokens::default() } };
        assert_eq!(model("gpt-transcribe").transcript(&used), None);
    }
}
