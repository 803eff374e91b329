//! Costs, cent by cent.

use super::*;
use crate::provider::prices::{ModelPrices, Price};
use crate::record::{Ended, Refusal, Transfer};

/// The usage events of one call, as they are stored.
fn log() -> Vec<Entry> {
    let lines = include_str!("usage.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn bill(entries: &[Entry]) -> Bill {
    let mut bill = Bill::default();
    entries.iter().for_each(|entry| bill.add(entry));
    bill
}

/// Calculated without our code, in millionths of a dollar, from the table of 2026-11-30:
///
/// | | | |
/// | --- | --- | --- |
/// | 1st | 500 × 4.00 + 100 × 64.00 | 8 400.0 |
/// | 2nd, text | (620 − 448) × 4.00 + 448 × 0.40 + 40 × 24.00 | 1 827.2 |
/// | 2nd, audio | (132 − 64) × 32.00 + 64 × 0.40 + 210 × 64.00 | 15 641.6 |
/// | 3rd, after a replay | 800 × 4.00 + 30 × 24.00 + 150 × 64.00 | 13 520.0 |
/// | 4th, mini | (900 − 512) × 0.60 + 512 × 0.06 + 80 × 10.00 + 90 × 20.00 | 2 863.52 |
/// | model | | 42 252.32 |
/// | of it reconnects | 800 × 4.00 | 3 200.0 |
/// | transcription | (3.2 s + 4.8 s) ÷ 60 × 6 000 | 800.0 |
/// | carrier | 2 × 8 500 for the call of 62.5 s, 2 × 4 000 for the stream of 61.5 s | 25 000.0 |
#[test]
fn a_log_of_usage_costs_what_the_price_table_says() {
    let Priced { cost, unpriced, .. } = bill(&log()).priced(&Prices::default(), 62.5);
    let cost = cost.unwrap();
    assert_eq!(unpriced, [""; 0]);
    assert_eq!(cost.model, 0.042_252);
    assert_eq!(cost.reconnects, 0.003_2);
    assert_eq!(cost.transcription, 0.000_8);
    assert_eq!(cost.carrier_estimate, 0.025);
    assert_eq!(cost.total, 0.068_052);
    assert_eq!((cost.currency.as_str(), cost.prices.as_str()), ("USD", "2026-11-30"));
}

#[test]
fn a_response_more_costs_more() {
    let log = log();
    let total = |bill: &Bill| bill.priced(&Prices::default(), 62.5).cost.unwrap().total;
    let whole = total(&bill(&log));
    for nth in 2..8 {
        let mut less = log.clone();
        less.remove(nth);
        assert!(total(&bill(&less)) < whole, "entry {nth} is charged");
    }
}

#[test]
fn an_unknown_model_has_no_cost_and_is_named() {
    let mut log = log();
    let What::Used { model, .. } = &mut log[7].what else { panic!("{log:?}") };
    "gpt-realtime-9".clone_into(model);
    let priced = bill(&log).priced(&Prices::default(), 62.5);
    assert_eq!(priced.cost, None);
    assert_eq!(priced.unpriced, ["openai/gpt-realtime-9"]);
    assert_eq!(priced.at_least, 0.065_189, "all but the 4th response");
    // With a price, it costs 900 × 1.00 + 80 × 1.00 + 90 × 1.00 in place of 2863.52.
    let one = Some(Price::dollars(1.0));
    let mut prices = Prices::default();
    prices.set(
        "gpt-realtime-9",
        ModelPrices { text_in: one, audio_in: one, audio_out: one, ..ModelPrices::default() },
    );
    assert_eq!(bill(&log).priced(&prices, 62.5).cost.unwrap().model, 0.040_459);
}

#[test]
fn a_simulated_call_costs_nothing_and_a_test_call_no_carrier() {
    let mut log = log();
    let flags = |log: &mut Vec<Entry>, test, simulated| {
        let What::Rang(rang) = &mut log[0].what else { panic!("{log:?}") };
        (rang.test, rang.simulated) = (test, simulated);
    };
    flags(&mut log, true, false);
    let cost = bill(&log).priced(&Prices::default(), 62.5).cost.unwrap();
    assert_eq!((cost.carrier_estimate, cost.total), (0.0, 0.043_052));
    flags(&mut log, true, true);
    assert_eq!(bill(&log).priced(&Prices::default(), 62.5), Priced::default());
}

#[test]
fn a_refused_ring_costs_a_minute_of_the_carriers() {
    let cost = bill(&log()[..1]).priced(&Prices::default(), 0.0).cost.unwrap();
    assert_eq!((cost.total, cost.carrier_estimate), (0.008_5, 0.008_5));
    let ended = |why: Refusal| {
        let ended = Ended { reason: why.code().to_owned(), seconds: 0.0, longest_silence_ms: 0 };
        let log = [log()[0].clone(), Entry { at_ms: 0, what: What::Ended(ended) }];
        bill(&log).priced(&Prices::default(), 0.0).at_least
    };
    assert_eq!([Refusal::Busy, Refusal::Cost, Refusal::Blocked].map(ended), [0.008_5, 0.008_5, 0.0]);
}

#[test]
fn a_transfer_is_a_leg_of_its_own_and_ends_the_stream() {
    let mut log = log();
    let transfer = |outcome: &str| Transfer { target: "desk".to_owned(), outcome: outcome.to_owned() };
    log.push(Entry { at_ms: 30_000, what: What::Transferred(transfer("sent")) });
    // The call of 182.5 s has 4 minutes, the stream of 30 s one, and the leg to the desk of 151.5 s three.
    let carrier = |log: &[Entry]| bill(log).priced(&Prices::default(), 182.5).cost.unwrap().carrier_estimate;
    assert_eq!(carrier(&log), 0.08);
    // Nobody answered: the stream of 181.5 s goes on.
    log.push(Entry { at_ms: 50_000, what: What::Transferred(transfer("no_answer")) });
    assert_eq!(carrier(&log), 0.05);
}

#[test]
fn a_session_by_the_minute_costs_its_time() {
    let mut log = log();
    let What::Used { model, .. } = &mut log[7].what else { panic!("{log:?}") };
    "gpt-live-1".clone_into(model);
    log.drain(2..7);
    // 62.5 s at 0.05 a minute.
    assert_eq!(bill(&log).priced(&Prices::default(), 62.5).cost.unwrap().model, 0.052_083);
}
