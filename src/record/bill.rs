//! What a call costs: a sum over its entries.

use super::entry::{Entry, What};
use super::refused::Refusal;
use super::{Cost, TokenCounts};
use crate::provider::prices::{ModelPrices, Money, Prices};
use crate::provider::usage::{Tokens, Transcribed};

/// The most models whose use is summed: a call has a few endpoints.
const MAX_MODELS: usize = 32;

/// The charges of one call so far.
#[derive(Debug, Clone, Default)]
pub struct Bill {
    /// In the order of providers and models. A call has few, and a map would take kilobytes for one.
    used: Vec<Used>,
    /// A phone call, and not a rehearsal.
    carried: bool,
    simulated: bool,
    streamed: bool,
    /// When the call was passed on, in milliseconds since the stream's start.
    passed_on_ms: Option<u64>,
    /// Milliseconds from the ring to the stream's start.
    ring_ms: u64,
}

/// What one model was used for.
#[derive(Debug, Clone, Default)]
struct Used {
    provider: String,
    model: String,
    responses: Tokens,
    /// Of them, those of responses that followed a replay.
    replayed: Tokens,
    speaks: bool,
    transcripts: Tokens,
    transcribed_ms: u64,
}

/// A call's cost, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Priced {
    /// `None` if nothing was charged, or not everything has a price.
    pub cost: Option<Cost>,
    /// The dollars of what has a price.
    pub at_least: f64,
    /// The models without a price.
    pub unpriced: Vec<String>,
}

impl Bill {
    /// Takes in what is charged.
    pub fn add(&mut self, entry: &Entry) {
        match &entry.what {
            What::Rang(rang) => (self.carried, self.simulated) = (!rang.test, rang.simulated),
            What::Started { ring_ms } => (self.streamed, self.ring_ms) = (true, *ring_ms),
            What::Used { provider, model, tokens, replayed } => {
                let Some(used) = self.used(provider, model) else { return };
                used.speaks = true;
                used.responses += *tokens;
                if *replayed {
                    used.replayed += *tokens;
                }
            }
            What::Transcribed { provider, model, used: by } => {
                let Some(used) = self.used(provider, model) else { return };
                match by {
                    Transcribed::Seconds { seconds } => {
                        let ms = (seconds * 1_000.0).round() as u64;
                        used.transcribed_ms = used.transcribed_ms.saturating_add(ms);
                    }
                    Transcribed::Tokens { tokens } => used.transcripts += *tokens,
                }
            }
            What::Transferred(transfer) => {
                self.passed_on_ms = (transfer.outcome == "sent").then_some(entry.at_ms);
            }
            // Nobody answered it, so nobody pays.
            What::Ended(ended) if ended.reason == Refusal::Blocked.code() => self.carried = false,
            _ => {}
        }
    }

    fn used(&mut self, provider: &str, model: &str) -> Option<&mut Used> {
        let order = |used: &Used| (used.provider.as_str(), used.model.as_str()).cmp(&(provider, model));
        let at = match self.used.binary_search_by(order) {
            Ok(at) => at,
            Err(_) if self.used.len() == MAX_MODELS => return None,
            Err(at) => {
                let (provider, model) = (provider.to_owned(), model.to_owned());
                self.used.reserve_exact(1);
                self.used.insert(at, Used { provider, model, ..Used::default() });
                at
            }
        };
        Some(&mut self.used[at])
    }

    /// All tokens of responses.
    pub fn tokens(&self) -> TokenCounts {
        let mut kinds = Tokens::default();
        self.used.iter().for_each(|used| kinds += used.responses);
        TokenCounts { taken: kinds.taken(), made: kinds.made(), kinds }
    }

    /// The cost of the call if it lasted this long from the ring. A simulated call costs nothing, and a test call no
    /// carrier.
    pub fn priced(&self, prices: &Prices, seconds: f64) -> Priced {
        if self.simulated || (!self.carried && self.used.is_empty()) {
            return Priced::default();
        }
        let ms = (seconds * 1_000.0).max(0.0).round() as u64;
        let mut parts = Parts::default();
        let mut unpriced = Vec::new();
        for used in &self.used {
            let Used { provider, model, .. } = used;
            let priced = prices.of(provider, model).and_then(|prices| used.priced(&prices, ms));
            match priced {
                Some(more) => parts += more,
                None => unpriced.push(format!("{provider}/{model}")),
            }
        }
        let cost = parts.cost(self.carrier(prices, ms), prices);
        Priced { at_least: cost.total, cost: unpriced.is_empty().then_some(cost), unpriced }
    }

    /// The carrier's legs: the caller's, the stream, and the one to a person.
    fn carrier(&self, prices: &Prices, ms: u64) -> Money {
        let mut sum = Money::default();
        if !self.carried {
            return sum;
        }
        let carrier = &prices.carrier;
        sum += carrier.inbound.of_minutes_begun(ms);
        let stream_ms = ms.saturating_sub(self.ring_ms);
        if self.streamed {
            sum += carrier.streams.of_minutes_begun(self.passed_on_ms.unwrap_or(stream_ms));
        }
        if let Some(since) = self.passed_on_ms {
            sum += carrier.outbound.of_minutes_begun(stream_ms.saturating_sub(since));
        }
        sum
    }
}

/// The sums of one call or model.
#[derive(Debug, Clone, Copy, Default)]
struct Parts {
    model: Money,
    transcription: Money,
    reconnects: Money,
}

impl std::ops::AddAssign for Parts {
    fn add_assign(&mut self, more: Self) {
        self.model += more.model;
        self.transcription += more.transcription;
        self.reconnects += more.reconnects;
    }
}

impl Used {
    /// `None` if a price is missing.
    fn priced(&self, prices: &ModelPrices, ms: u64) -> Option<Parts> {
        let mut parts = Parts::default();
        if self.speaks {
            parts.model += prices.tokens(&self.responses)?;
            // A session is charged by its time, silence included.
            parts.model += prices.minute.map(|price| price.of_ms(ms)).unwrap_or_default();
            // An answer would have been said anyway; that the conversation was read again is the reconnect's.
            parts.reconnects += prices.read(&self.replayed)?;
        }
        if self.transcripts != Tokens::default() {
            parts.transcription += prices.transcript(&Transcribed::Tokens { tokens: self.transcripts })?;
        }
        if self.transcribed_ms > 0 {
            parts.transcription += prices.minute?.of_ms(self.transcribed_ms);
        }
        Some(parts)
    }
}

impl Parts {
    fn cost(self, carrier: Money, prices: &Prices) -> Cost {
        let dollars = |micros: u64| micros as f64 / 1e6;
        let [model, transcription, carrier] = [self.model, self.transcription, carrier].map(Money::micros);
        Cost {
            currency: "USD".to_owned(),
            model: dollars(model),
            transcription: dollars(transcription),
            carrier_estimate: dollars(carrier),
            reconnects: dollars(self.reconnects.micros()),
            total: dollars(model + transcription + carrier),
            prices: prices.date.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
