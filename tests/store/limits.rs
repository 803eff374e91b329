//! What one machine does counts for the limits of another.

use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use switchboard::assistant::plan::Gate;
use switchboard::phone::Party;
use switchboard::provider::usage::Tokens;
use switchboard::record::{RecordId, Refusal, What};
use switchboard::session::{Limits, Others, Ringing};
use switchboard::store::{Place, Records, Store};

use super::calls::{Call, number, start, time};
use super::cases::until;

/// The part of the five seconds that is left for the writer: the rest is the pause between readings.
const WRITTEN_WITHIN: Duration = Duration::from_secs(2);

/// The machine that only answers: it knows the others' calls from the store.
struct Machine {
    store: Store,
    limits: Limits,
    others: Others,
    rings: u32,
}

impl Machine {
    async fn new(place: &Place) -> Self {
        let (limits, others) = (Limits::new(None), Others::default());
        Self { store: Store::open(place).await.unwrap(), limits, others, rings: 0 }
    }

    async fn read(&mut self) {
        self.others.read(&self.store, &self.limits, time(10)).await.unwrap();
    }

    /// Why a ring of this caller would be refused. It does not count.
    fn refuses(&mut self, caller: &Party, gate: &Gate) -> Option<Refusal> {
        self.rings += 1;
        let (id, call) = (RecordId::new(time(10), self.rings.into()), format!("CB{}", self.rings));
        let ringing = Ringing { call: &call, assistant: "salon", caller: Some(caller) };
        let gate = Some((gate, &TimeZone::UTC));
        // There is no place, so that a ring that may come in is refused, too.
        let admitted = self.limits.admit(id, &ringing, gate, time(10), || None::<()>);
        admitted.err().filter(|why| *why != Refusal::Busy)
    }

    /// Reads until a ring is refused so.
    async fn until_refused(&mut self, caller: &Party, gate: &Gate, expected: Option<Refusal>) {
        let began = Instant::now();
        until(async || {
            self.read().await;
            (self.refuses(caller, gate) == expected).then_some(())
        })
        .await;
        assert!(began.elapsed() < WRITTEN_WITHIN, "{expected:?} after {:?}", began.elapsed());
    }
}

fn used(call: &Call, records: &Records, audio_out: u64) {
    let (provider, model) = ("openai".to_owned(), "gpt-realtime-2.1".to_owned());
    let tokens = Tokens { audio_out, ..Tokens::default() };
    call.note(records, 1_000, What::Used { provider, model, tokens, replayed: false });
}

/// One machine has calls, and the other sees them, their callers and their costs within a moment.
pub async fn two_machines(place: &Place) {
    let (records, store, closer) = start(place);
    until(async || store.status().ok()).await;
    let mut other = Machine::new(place).await;
    let [first, second] = [1, 2].map(|last| Party::Number(number(last)));
    let one = Gate { calls: Some(1), ..Gate::default() };
    let hourly = Gate { per_hour: Some(1), ..Gate::default() };
    let daily = Gate { cost_per_day: Some(1.0), ..Gate::default() };
    other.read().await;
    for gate in [&one, &hourly, &daily] {
        assert_eq!(other.refuses(&first, gate), None);
    }

    let call = Call::at(9);
    call.ring(&records);
    other.until_refused(&second, &one, Some(Refusal::Calls)).await;
    assert_eq!(other.refuses(&first, &hourly), Some(Refusal::Caller));
    assert_eq!(other.refuses(&second, &hourly), None);

    // A million tokens of audio cost 64 dollars. The call runs on.
    used(&call, &records, 10_000);
    assert_eq!(other.refuses(&second, &daily), None);
    used(&call, &records, 10_000);
    other.until_refused(&second, &daily, Some(Refusal::Cost)).await;

    call.end(&records, "caller.hung_up");
    other.until_refused(&second, &one, None).await;
    assert_eq!(other.refuses(&second, &daily), Some(Refusal::Cost), "a call that is over has cost something");

    // These do not count: a ring that was refused, a test, and, for a caller, one without a number.
    let refused = Call::at(8).from(2);
    refused.ring(&records);
    refused.end(&records, "refused.limit");
    let mut test = Call::at(7).from(2);
    test.rang.test = true;
    test.ring(&records);
    let mut numberless = Call::at(6);
    (numberless.rang.from, numberless.rang.caller, numberless.rang.numberless) = (None, None, true);
    numberless.ring(&records);
    other.until_refused(&second, &one, Some(Refusal::Calls)).await;
    let two = Gate { calls: Some(2), ..Gate::default() };
    assert_eq!(other.refuses(&second, &two), None, "only the last of them is a call");
    assert_eq!(other.refuses(&second, &hourly), None);
    let withheld = Gate { count_withheld: true, ..hourly.clone() };
    assert_eq!(other.refuses(&Party::Withheld, &withheld), None);

    let mut withheld_call = Call::at(5);
    (withheld_call.rang.from, withheld_call.rang.caller) = (None, None);
    withheld_call.ring(&records);
    other.until_refused(&Party::Withheld, &withheld, Some(Refusal::Caller)).await;

    // A machine that starts knows all of it at its first reading.
    let mut new = Machine::new(place).await;
    new.read().await;
    assert_eq!(new.refuses(&first, &hourly), Some(Refusal::Caller));
    assert_eq!(new.refuses(&second, &daily), Some(Refusal::Cost));
    assert_eq!(new.refuses(&Party::Withheld, &withheld), Some(Refusal::Caller));
    closer.close(Duration::from_secs(20)).await;
}
