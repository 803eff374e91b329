//! A signed ring that is sent again: it opens nothing, unless the call still needs it.

use super::machines::{after, at_rest, ring};
use super::*;

fn rings(switchboard: &Arc<Switchboard>, call: &str) -> Ring {
    let form =
        format!("CallSid={call}&From=%2B15550100007&To=%2B15550100001&CallStatus=ringing").into_bytes();
    switchboard.ring(&CallRequest::read(&Form::parse(&form)).unwrap())
}

fn is_replay(ring: &Ring) -> bool {
    matches!(ring, Ring::Replayed)
}

#[tokio::test]
async fn a_call_that_ended_opens_nothing() {
    let switchboard = switchboard();
    let ticket = ring(&switchboard);
    assert_eq!(ring(&switchboard), ticket, "a webhook that is sent twice gets the same answer");
    switchboard.after_stream(&ticket, &request("CallStatus=completed")).await;
    at_rest(&switchboard).await;
    assert!(is_replay(&rings(&switchboard, CALL)));
    assert!(matches!(rings(&switchboard, OTHER), Ring::Stream { .. }), "another call rings");
}

#[tokio::test]
async fn a_call_under_way_does_not_ring() {
    let switchboard = switchboard();
    let _stream = switchboard.admit(&ring(&switchboard)).unwrap();
    assert!(is_replay(&rings(&switchboard, CALL)));
    // Neither does one that is away, or on its way back.
    let parked = Parked::dialling();
    assert!(is_replay(&rings(&parked.switchboard, CALL)));
    parked.ask(UP, "dial").await;
    let (Next::Stream { .. }, _) = parked.ask(&format!("{UP}&DialCallStatus=busy"), "stream").await else {
        panic!("the phone returns")
    };
    parked.switchboard.registry.ended(&parked.nonce);
    assert!(is_replay(&rings(&parked.switchboard, CALL)), "the ticket of its way back is not for rings");
}

#[tokio::test]
async fn a_busy_answer_may_be_fetched_again() {
    let switchboard = switchboard();
    let places = [switchboard.admission.place(), switchboard.admission.place()];
    for _ in 0..2 {
        assert!(matches!(rings(&switchboard, CALL), Ring::Busy(_)));
    }
    drop(places);
    ring(&switchboard);
}

#[tokio::test]
async fn a_stream_that_did_not_start_is_tried_again_and_does_not_ring() {
    let switchboard = switchboard();
    let ticket = ring(&switchboard);
    drop(switchboard.admit(&ticket).unwrap());
    at_rest(&switchboard).await;
    assert!(is_replay(&rings(&switchboard, CALL)));
    assert!(matches!(after(&switchboard, &ticket).await, Next::Stream { .. }));
}

#[tokio::test]
async fn a_call_that_twilio_reports_as_over_opens_nothing_at_any_machine() {
    let switchboard = switchboard();
    assert!(!switchboard.call_is_over(&call()), "it is not here");
    assert!(is_replay(&rings(&switchboard, CALL)));
    // A stream that did not start is not tried again either.
    let switchboard = machine("m1");
    let ticket = ring(&switchboard);
    drop(switchboard.admit(&ticket).unwrap());
    at_rest(&switchboard).await;
    switchboard.call_is_over(&call());
    assert!(matches!(after(&switchboard, &ticket).await, Next::Sorry(_)));
}

#[tokio::test]
async fn a_call_that_went_to_another_machine_may_ring_here_again() {
    let (issuer, other) = (machine("m1"), machine("m2"));
    let ticket = ring(&issuer);
    assert_eq!(issuer.give_up(&ticket, Some("m2".to_owned()), false), Ok(()));
    let stream = other.adopt(other.may_adopt(&ticket).unwrap()).unwrap();
    assert!(is_replay(&rings(&other, CALL)), "it is under way there");
    drop(stream);
    at_rest(&other).await;
    other.begin_draining();
    assert!(matches!(after(&other, &ticket).await, Next::RingElsewhere));
    assert!(matches!(rings(&other, CALL), Ring::Draining), "its proxy takes it to the next machine");
    ring(&issuer);
}

#[tokio::test]
async fn a_report_that_a_call_is_over_rings_nothing() {
    for status in ["completed", "busy", "no-answer", "failed", "canceled"] {
        let switchboard = switchboard();
        let report = request(&format!("CallStatus={status}"));
        assert!(matches!(switchboard.ring(&report), Ring::Over), "{status}");
        assert!(switchboard.is_empty() && switchboard.calls() == 0, "{status}: no session was opened");
        assert!(is_replay(&rings(&switchboard, CALL)), "{status}: the call is over");
    }
}
