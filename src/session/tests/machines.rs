//! Several machines: whose ticket it is, who may serve it, and that nobody serves it twice.

use super::*;

fn ring(switchboard: &Arc<Switchboard>) -> String {
    match switchboard.ring(&request("CallStatus=ringing")) {
        Ring::Stream { ticket } => ticket,
        _ => panic!("it is answered"),
    }
}

/// Waits until its sessions have given their places back.
async fn at_rest(switchboard: &Switchboard) {
    let rest = async {
        while switchboard.calls() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), rest).await.expect("its sessions end");
}

async fn after(switchboard: &Arc<Switchboard>, ticket: &str) -> Next {
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
    // Two at once: both may, and one of them does.
    let (first, second) = (other.may_adopt(&ticket).unwrap(), other.may_adopt(&ticket).unwrap());
    let stream_tx = other.adopt(first).expect("it is served");
    assert_eq!(other.adopt(second).err(), Some(Refused::Used));
    assert_eq!(other.may_adopt(&ticket).err(), Some(Refused::Used));
    assert_eq!(other.admit(&ticket).err(), Some(Refused::Used), "it is this machine's now, and used");
    assert_eq!(other.calls(), 1);
    // What follows is this machine's to say.
    drop(stream_tx);
    assert!(!matches!(after(&other, &ticket).await, Next::NotHere { .. }));
}

#[tokio::test]
async fn a_ticket_is_given_up_once_and_only_while_nobody_used_it() {
    let issuer = machine("m1");
    let ticket = ring(&issuer);
    assert_eq!(issuer.give_up(&ticket, None, false), Ok(()));
    assert_eq!(issuer.give_up(&ticket, None, false), Err(Refused::Used));
    assert_eq!(issuer.admit(&ticket).err(), Some(Refused::Used));
    assert_eq!(issuer.may_adopt(&ticket).err(), Some(Refused::Used));
    at_rest(&issuer).await;
    assert!(
        matches!(after(&issuer, &ticket).await, Next::NotHere { machine: None, .. }),
        "it is not its call"
    );
    assert!(!issuer.registry.may_be_asked(Duration::from_secs(60)));

    // Where it is known who has it, that one is asked.
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
async fn an_old_ticket_is_served_nowhere() {
    let other = machine("m2");
    let seal = |age: i64| {
        let issued = unix_seconds().saturating_add_signed(-age);
        let (call, assistant) = (CallSid::from(CALL), "clinic".to_owned());
        let ticket = Ticket { machine: "m1".to_owned(), call, assistant, issued, nonce: rand::random() };
        other.keys.seal(&ticket).unwrap()
    };
    for (age, refused) in
        [(0, None), (55, None), (-5, None), (60, Some(Refused::Old)), (-90, Some(Refused::Old))]
    {
        assert_eq!(other.may_adopt(&seal(age)).err(), refused, "{age} s");
    }
}

#[tokio::test]
async fn where_there_is_one_machine_its_tickets_are_all_there_are() {
    let ticket = ring(&switchboard());
    let restarted = switchboard();
    assert_eq!(restarted.admit(&ticket).err(), Some(Refused::Unknown));
    assert!(matches!(after(&restarted, &ticket).await, Next::Sorry(_)));
    // One without a name, or with a name that may not stand in a header, is nobody's on Fly either.
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
async fn a_machine_that_was_started_again_serves_the_tickets_of_its_former_life() {
    let ticket = ring(&machine("m1"));
    let restarted = machine("m1");
    assert_eq!(restarted.admit(&ticket).err(), Some(Refused::Foreign));
    assert_eq!(restarted.issuer(&ticket), None, "nobody else is asked");
    let adoption = restarted.may_adopt(&ticket).unwrap();
    assert!(restarted.adopt(adoption).is_ok());
}

#[tokio::test]
async fn a_machine_that_is_full_or_closes_takes_nothing_over() {
    let other = machine("m2");
    let ticket = ring(&machine("m1"));
    let places = [other.may_adopt(&ticket).unwrap(), other.may_adopt(&ticket).unwrap()];
    assert_eq!(other.may_adopt(&ticket).err(), Some(Refused::Busy));
    drop(places);
    assert_eq!(other.calls(), 0, "nothing was used up");
    // One that is about to be taken over is, though the server closes meanwhile: its machine may have given it up.
    let late = other.may_adopt(&ticket).unwrap();
    other.begin_draining();
    assert_eq!(other.may_adopt(&ticket).err(), Some(Refused::Draining));
    assert!(!other.is_empty(), "the server waits for it");
    other.say_goodbyes();
    assert!(other.adopt(late).is_ok());
    let ticket = ring(&machine("m1"));
    let other = machine("m2");
    let dropped = other.may_adopt(&ticket).unwrap();
    other.begin_draining();
    drop(dropped);
    assert!(other.is_empty(), "and no longer than until it is decided");
}

#[tokio::test]
async fn a_stream_that_broke_off_here_and_is_served_elsewhere_is_not_begun_again() {
    let issuer = machine("m1");
    let ticket = ring(&issuer);
    // The machine hung; what it is sent when it wakes is from a proxy that has given up long ago.
    drop(issuer.admit(&ticket).expect("the stream is let in"));
    at_rest(&issuer).await;
    let give_up = |ticket: &str, taker: &str, served| issuer.give_up(ticket, Some(taker.to_owned()), served);
    assert_eq!(
        give_up(&ticket, "m2", false),
        Err(Refused::Used),
        "nobody gets a second stream for the asking"
    );
    assert_eq!(give_up(&ticket, "m2", true), Ok(()));
    assert!(
        matches!(after(&issuer, &ticket).await, Next::NotHere { machine: Some(name), .. } if name == "m2")
    );
    // The same machine did not hear the answer; another one comes too late.
    assert_eq!(give_up(&ticket, "m2", true), Ok(()));
    assert_eq!(give_up(&ticket, "m3", true), Err(Refused::Used));
    assert!(!issuer.call_is_over(&CallSid::from(CALL)), "the call is another machine's");
    // One that was begun again already is this machine's.
    let ticket = ring(&issuer);
    drop(issuer.admit(&ticket).expect("the stream is let in"));
    at_rest(&issuer).await;
    let again = issuer.after_stream(&ticket, &request(UP)).await;
    assert!(matches!(again.next, Next::Stream { .. }));
    issuer.answered(&again, "<Response/>");
    assert_eq!(give_up(&ticket, "m2", true), Err(Refused::Used));
}

#[tokio::test]
async fn a_call_that_could_not_begin_before_the_server_closed_rings_elsewhere() {
    for (switchboard, elsewhere) in [(machine("m1"), true), (switchboard(), false)] {
        let ticket = ring(&switchboard);
        switchboard.begin_draining();
        // Its stream never came: the session says so, and the server does not answer it again.
        let next = after(&switchboard, &ticket).await;
        assert_eq!(matches!(next, Next::RingElsewhere), elsewhere);
        assert_eq!(matches!(next, Next::Sorry(_)), !elsewhere);
        assert_eq!(switchboard.call_is_over(&CallSid::from(CALL)), !elsewhere, "news of its end follow it");
    }
    // The second try is the last.
    let switchboard = machine("m1");
    let Next::Stream { ticket } = after(&switchboard, &ring(&switchboard)).await else {
        panic!("it is tried once more")
    };
    switchboard.begin_draining();
    assert!(matches!(after(&switchboard, &ticket).await, Next::Sorry(_)));
}

#[tokio::test]
async fn news_of_a_parked_call_follow_the_phone_that_came_back_elsewhere() {
    let parked = Parked::dialling();
    parked.ask(UP, "dial").await;
    let (Next::Stream { ticket }, _) = parked.ask(&format!("{UP}&DialCallStatus=busy"), "stream").await
    else {
        panic!("it comes back")
    };
    assert!(parked.switchboard.call_is_over(&CallSid::from(CALL)));
    assert_eq!(parked.switchboard.give_up(&ticket, Some("m2".to_owned()), false), Ok(()));
    assert!(
        !parked.switchboard.call_is_over(&CallSid::from(CALL)),
        "its first ticket is here, the call is not"
    );
}

#[tokio::test]
async fn a_closing_server_waits_for_the_last_questions() {
    let switchboard = switchboard();
    let ticket = ring(&switchboard);
    let recently = Duration::from_secs(60);
    assert!(!switchboard.registry.may_be_asked(recently), "it has not ended");
    switchboard.call_is_over(&CallSid::from(CALL));
    at_rest(&switchboard).await;
    assert!(switchboard.registry.may_be_asked(recently));
    assert!(timeout(Duration::from_millis(50), switchboard.all_asked(recently)).await.is_err());
    assert!(!switchboard.registry.may_be_asked(Duration::ZERO), "that was long ago");
    let asked = switchboard.after_stream(&ticket, &request("CallStatus=completed")).await;
    switchboard.answered(&asked, "");
    timeout(Duration::from_secs(1), switchboard.all_asked(recently)).await.expect("it was asked");
}
