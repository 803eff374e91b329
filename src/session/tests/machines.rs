//! Several machines: who issued a ticket, and who may serve it, once.

use std::sync::Mutex;

use super::*;
use crate::assistant::plan::KeptNumbers;
use crate::record::What;

pub fn ring(switchboard: &Arc<Switchboard>) -> String {
    match switchboard.ring(&request("CallStatus=ringing")) {
        Ring::Stream { ticket, .. } => ticket,
        _ => panic!("it is answered"),
    }
}

/// Waits until all places are free.
pub async fn at_rest(switchboard: &Switchboard) {
    let rest = async {
        while switchboard.calls() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), rest).await.expect("its sessions end");
}

pub async fn after(switchboard: &Arc<Switchboard>, ticket: &str) -> Next {
    switchboard.after_stream(ticket, &request(UP)).await.next
}

#[tokio::test]
async fn a_stream_of_another_machine_is_served_once() {
    let (issuer, other) = (machine("m1"), machine("m2"));
    let ticket = ring(&issuer);
    assert_eq!(other.admit(&ticket).err(), Some(Refused::Foreign));
    assert_eq!(other.issuer(&ticket).as_deref(), Some("m1"));
    assert!(
        matches!(after(&other, &ticket).await, Next::NotHere { machine: Some(name), .. } if name == "m1")
    );
    // Of two at once, both may serve it, and one does.
    let (first, second) = (other.may_adopt(&ticket).unwrap(), other.may_adopt(&ticket).unwrap());
    assert_eq!(first.plan.record.numbers, KeptNumbers::None, "nobody here knows the caller");
    let stream_tx = other.adopt(first).expect("it is served");
    assert_eq!(other.adopt(second).err(), Some(Refused::Used));
    assert_eq!(other.may_adopt(&ticket).err(), Some(Refused::Used));
    assert_eq!(other.admit(&ticket).err(), Some(Refused::Used), "it is used here");
    assert_eq!(other.calls(), 1);
    // This machine decides what follows.
    drop(stream_tx);
    assert!(!matches!(after(&other, &ticket).await, Next::NotHere { .. }));
}

#[tokio::test]
async fn a_ring_has_a_record_at_once_and_whoever_goes_on_says_so() {
    let recorded = |name| {
        let sent: Arc<Mutex<Vec<What>>> = Arc::default();
        let to = sent.clone();
        let mut machine = Arc::into_inner(machine(name)).unwrap();
        machine.records.sink = Some(Arc::new(move |_: &_, entry| to.lock().unwrap().push(entry.what)));
        (Arc::new(machine), sent)
    };
    let ((issuer, rang), (other, goes_on)) = (recorded("m1"), recorded("m2"));
    let ticket = ring(&issuer);
    assert!(matches!(rang.lock().unwrap()[..], [What::Rang(_)]), "the stream has not come");
    let _stream = other.adopt(other.may_adopt(&ticket).unwrap()).unwrap();
    assert!(matches!(goes_on.lock().unwrap()[..], [What::Rang(_), What::Adopted]));
    issuer.give_up(&ticket, Some("m2".to_owned()), false).unwrap();
    at_rest(&issuer).await;
    assert!(matches!(rang.lock().unwrap()[..], [What::Rang(_), What::GivenUp]));

    // A stream that did not start: the second attempt has the record.
    let ticket = ring(&issuer);
    rang.lock().unwrap().clear();
    assert!(matches!(after(&issuer, &ticket).await, Next::Stream { .. }));
    assert!(matches!(rang.lock().unwrap()[..], [What::Withdrawn, What::Rang(_)]));
}

#[tokio::test]
async fn an_unused_ticket_is_given_up_once() {
    let issuer = machine("m1");
    let ticket = ring(&issuer);
    assert_eq!(issuer.give_up(&ticket, None, false), Ok(()));
    assert_eq!(issuer.give_up(&ticket, None, false), Err(Refused::Used));
    assert_eq!(issuer.admit(&ticket).err(), Some(Refused::Used));
    assert_eq!(issuer.may_adopt(&ticket).err(), Some(Refused::Used));
    at_rest(&issuer).await;
    assert!(
        matches!(after(&issuer, &ticket).await, Next::NotHere { machine: None, .. }),
        "the call is not here"
    );
    assert!(!issuer.registry.may_be_asked(Duration::from_secs(60)));

    // If the taker is known, it is asked.
    let ticket = ring(&issuer);
    assert_eq!(issuer.give_up(&ticket, Some("m2".to_owned()), false), Ok(()));
    assert!(
        matches!(after(&issuer, &ticket).await, Next::NotHere { machine: Some(name), .. } if name == "m2")
    );

    let parked = Parked::new(None);
    assert_eq!(
        parked.switchboard.give_up(&parked.ticket, None, false),
        Err(Refused::Used),
        "a stream came with it"
    );
    assert_eq!(issuer.give_up("x", None, false), Err(Refused::Unknown));
    assert_eq!(machine("m2").give_up(&ticket, None, false), Err(Refused::Unknown));
}

#[tokio::test]
async fn an_old_ticket_is_not_served() {
    // 80 letters take at most 20 s.
    let notice = format!("record: {{ audio: true }}\nrecording_notice: {}\n", "x".repeat(80));
    let (other, telling) = (machine("m2"), machine_with("m2", &notice));
    let seal = |age: i64| {
        let issued = unix_seconds().saturating_add_signed(-age);
        let (call, assistant) = (call(), "clinic".to_owned());
        let ticket = Ticket { machine: "m1".to_owned(), call, assistant, issued, nonce: rand::random() };
        other.keys.seal(&ticket).unwrap()
    };
    for (age, refused) in
        [(0, None), (55, None), (-5, None), (60, Some(Refused::Old)), (-90, Some(Refused::Old))]
    {
        assert_eq!(other.may_adopt(&seal(age)).err(), refused, "{age} s");
    }
    for (age, refused) in [(60, None), (75, None), (80, Some(Refused::Old))] {
        assert_eq!(telling.may_adopt(&seal(age)).err(), refused, "{age} s, with a notice");
    }
}

#[tokio::test]
async fn a_single_machine_knows_no_foreign_tickets() {
    let ticket = ring(&switchboard());
    let restarted = switchboard();
    assert_eq!(restarted.admit(&ticket).err(), Some(Refused::Unknown));
    assert!(matches!(after(&restarted, &ticket).await, Next::Sorry(_)));
    // A machine without a name, or with one that is not allowed in a header, cannot be asked.
    for name in ["", "M1", "m1;app=x", "m1.example.com"] {
        let ticket = ring(&machine(name));
        let other = machine("m2");
        assert_eq!(other.admit(&ticket).err(), Some(Refused::Unknown), "{name:?}");
        assert_eq!(other.issuer(&ticket), None, "{name:?}");
    }
    let mut forged = ring(&machine("m1"));
    forged.replace_range(10..11, if &forged[10..11] == "A" { "B" } else { "A" });
    let other = machine("m2");
    assert_eq!(other.admit(&forged).err(), Some(Refused::Unknown));
    assert_eq!(other.may_adopt(&forged).err(), Some(Refused::Unknown));
}

#[tokio::test]
async fn a_restarted_machine_serves_its_earlier_tickets() {
    let ticket = ring(&machine("m1"));
    let restarted = machine("m1");
    assert_eq!(restarted.admit(&ticket).err(), Some(Refused::Foreign));
    assert_eq!(restarted.issuer(&ticket), None, "no other machine is asked");
    let adoption = restarted.may_adopt(&ticket).unwrap();
    assert!(restarted.adopt(adoption).is_ok());
}

#[tokio::test]
async fn a_full_or_draining_machine_takes_no_call_over() {
    let other = machine("m2");
    let ticket = ring(&machine("m1"));
    let places = [other.may_adopt(&ticket).unwrap(), other.may_adopt(&ticket).unwrap()];
    assert_eq!(other.may_adopt(&ticket).err(), Some(Refused::Busy));
    drop(places);
    assert_eq!(other.calls(), 0, "nothing was used up");
    // An adoption that has begun goes on while the server drains: the issuer may have given the ticket up.
    let late = other.may_adopt(&ticket).unwrap();
    other.begin_draining();
    assert_eq!(other.may_adopt(&ticket).err(), Some(Refused::Draining));
    assert!(!other.is_empty(), "the server waits for the adoption");
    other.say_goodbyes();
    assert!(other.adopt(late).is_ok());
    let ticket = ring(&machine("m1"));
    let other = machine("m2");
    let dropped = other.may_adopt(&ticket).unwrap();
    other.begin_draining();
    drop(dropped);
    assert!(other.is_empty(), "without the adoption, there is nothing to wait for");
}

#[tokio::test]
async fn a_stream_that_is_served_elsewhere_is_not_started_again_here() {
    let issuer = machine("m1");
    let ticket = ring(&issuer);
    // The machine hung, and wakes to a request that the proxy has given up.
    drop(issuer.admit(&ticket).expect("the stream is let in"));
    at_rest(&issuer).await;
    let give_up = |ticket: &str, taker: &str, served| issuer.give_up(ticket, Some(taker.to_owned()), served);
    assert_eq!(
        give_up(&ticket, "m2", false),
        Err(Refused::Used),
        "a taker that does not serve it gets no second stream"
    );
    assert_eq!(give_up(&ticket, "m2", true), Ok(()));
    assert!(
        matches!(after(&issuer, &ticket).await, Next::NotHere { machine: Some(name), .. } if name == "m2")
    );
    // The same machine may ask again; another one is too late.
    assert_eq!(give_up(&ticket, "m2", true), Ok(()));
    assert_eq!(give_up(&ticket, "m3", true), Err(Refused::Used));
    let (_, is_here) = issuer.registry.of_call(&call());
    assert!(!is_here, "the call is another machine's");
    // A stream that was started again already is this machine's.
    let ticket = ring(&issuer);
    drop(issuer.admit(&ticket).expect("the stream is let in"));
    at_rest(&issuer).await;
    let again = issuer.after_stream(&ticket, &request(UP)).await;
    assert!(matches!(again.next, Next::Stream { .. }));
    issuer.answered(&again, "<Response/>");
    assert_eq!(give_up(&ticket, "m2", true), Err(Refused::Used));
}

#[tokio::test]
async fn a_call_that_did_not_begin_before_draining_rings_elsewhere() {
    for (switchboard, elsewhere) in [(machine("m1"), true), (switchboard(), false)] {
        let ticket = ring(&switchboard);
        switchboard.begin_draining();
        // Its stream never came, and a draining server does not open another one.
        let next = after(&switchboard, &ticket).await;
        assert_eq!(matches!(next, Next::RingElsewhere), elsewhere);
        assert_eq!(matches!(next, Next::Sorry(_)), !elsewhere);
        assert_eq!(switchboard.call_is_over(&call()), !elsewhere, "reports of its end go there, too");
    }
    // The second attempt is the last.
    let switchboard = machine("m1");
    let Next::Stream { ticket } = after(&switchboard, &ring(&switchboard)).await else {
        panic!("it is tried once more")
    };
    switchboard.begin_draining();
    assert!(matches!(after(&switchboard, &ticket).await, Next::Sorry(_)));
}

#[tokio::test]
async fn reports_follow_a_phone_that_came_back_elsewhere() {
    let parked = Parked::dialling();
    parked.ask(UP, "dial").await;
    let (Next::Stream { ticket }, _) = parked.ask(&format!("{UP}&DialCallStatus=busy"), "stream").await
    else {
        panic!("it comes back")
    };
    assert!(parked.switchboard.call_is_over(&call()));
    assert_eq!(parked.switchboard.give_up(&ticket, Some("m2".to_owned()), false), Ok(()));
    assert!(!parked.switchboard.call_is_over(&call()), "its first ticket is here, the call is not");
}

#[tokio::test]
async fn a_draining_server_waits_for_the_last_questions() {
    let switchboard = switchboard();
    let ticket = ring(&switchboard);
    let recently = Duration::from_secs(60);
    assert!(!switchboard.registry.may_be_asked(recently), "it has not ended");
    switchboard.call_is_over(&call());
    at_rest(&switchboard).await;
    assert!(switchboard.registry.may_be_asked(recently));
    assert!(timeout(Duration::from_millis(50), switchboard.all_asked(recently)).await.is_err());
    assert!(!switchboard.registry.may_be_asked(Duration::ZERO), "that was long ago");
    let asked = switchboard.after_stream(&ticket, &request("CallStatus=completed")).await;
    switchboard.answered(&asked, "");
    timeout(Duration::from_secs(1), switchboard.all_asked(recently)).await.expect("it was asked");
}
