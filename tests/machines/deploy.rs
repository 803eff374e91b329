//! Machines that drain during calls.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_call_that_returns_after_the_drain_hears_an_apology() {
    let app = presses_keys().await;
    let machine = app.machine(FIRST, &[("DRAIN_SECONDS", "0")]).await;
    let options = app.short_call();
    let call = options.call_sid.clone();
    let _phone = Phone::dial(options);
    let ticket = way_back(&app, &machine, &call).await;
    machine.signal("-TERM").await;
    until(|| machine.logged(r#""reason":"server.draining""#) == 1).await;
    let path = format!("/after-stream/{ticket}");
    let (_, answer) = post(&app, &machine.address, &path, &call, "").await;
    assert!(answer.contains("Sorry, something broke."), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn running_calls_survive_a_change_of_the_public_address() {
    let app = App::new().await;
    let machine = app.machine(FIRST, &[]).await;
    let ticket = ring(&app, &machine, CA1).await;
    // Twilio got these addresses from a machine that knew only Fly's address.
    let path = format!("/after-stream/{ticket}");
    let (status, _) = post_to("https://phone.fly.dev", &machine.address, &path, CA1, "").await;
    assert_eq!(status, 200);
    let path = format!("/media-stream/{}", ring(&app, &machine, CA2).await);
    for (base, status) in [("wss://app.fly.dev", 403), ("wss://phone.fly.dev", 101)] {
        let signed = format!("X-Twilio-Signature: {}\r\n", sign(TOKEN, &format!("{base}{path}"), &[]));
        assert_eq!(knock(&machine.address, &path, &signed).await.0, status, "{base}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_keeps_the_address_at_which_it_began() {
    let app = App::new().await;
    let old = app.machine(FIRST, &[("PUBLIC_URL", "")]).await;
    let new = app.machine(SECOND, &[("PUBLIC_URL", "https://phone.example.com")]).await;
    for (host, call, old_knows) in [("phone.fly.dev", CA1, true), ("phone.example.com", CA2, false)] {
        let base = format!("https://{host}");
        let (_, answer) = post_to(&base, &new.address, "/incoming-call", call, "").await;
        let ticket = stream_of(&answer).unwrap();
        for (attribute, kind) in [("url", "wss"), ("action", "https"), ("statusCallback", "https")] {
            assert!(answer.contains(&format!("{attribute}=\"{kind}://{host}/")), "{attribute}: {answer}");
        }
        // The number still has Fly's address, and the machines of the last release know no other.
        let path = format!("/media-stream/{ticket}");
        let signed = sign(TOKEN, &format!("wss://{host}{path}"), &[]);
        let (status, _) = knock(&old.address, &path, &format!("X-Twilio-Signature: {signed}\r\n")).await;
        assert_eq!(status, if old_knows { 200 } else { 403 }, "forwarded to the new machine");
        let (_, again) = post_to(&base, &new.address, &format!("/after-stream/{ticket}"), call, "").await;
        assert!(again.contains(&format!("url=\"wss://{host}/")), "{again}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_signed_with_another_token_is_forwarded_once() {
    let app = App::new().await;
    let old = app.machine(FIRST, &[]).await;
    let new = app.machine(SECOND, &[("TWILIO_AUTH_TOKEN", "54321,12345")]).await;
    app.proxy.rule("/incoming-call", SECOND);
    app.proxy.rule("/media-stream/", FIRST);
    app.proxy.rule("/after-stream/", FIRST);
    let record = finished(Phone::dial(app.short_call())).await;
    assert_went_well(&record);
    until(|| new.logged(r#""reason":"assistant.ended""#) == 1).await;
    let seen = app.proxy.seen();
    assert_eq!((seen.elsewhere("/media-stream/"), seen.elsewhere("/after-stream/")), (1, 1));

    let ticket = ring(&app, &new, CA1).await;
    let path = format!("/media-stream/{ticket}");
    let signed = signature(&app, &path);
    for (what, headers, status) in [
        ("Twilio's", signed.clone(), 200),
        ("a stranger's", String::new(), 403),
        ("sent on already", format!("{signed}fly-replay-src: instance=x\r\n"), 403),
    ] {
        assert_eq!(knock(&old.address, &path, &headers).await.0, status, "{what}");
    }
    let path = format!("/after-stream/{ticket}");
    let asked = post(&app, &old.address, &path, CA1, "switchboard-forwarded: 1\r\n").await;
    assert_eq!(asked.0, 404, "the asking machine decides");
    let (_, answer) = post(&app, &old.address, &path, CA1, "fly-replay-failed: x\r\n").await;
    assert!(answer.contains("Sorry"), "{answer}");
    // It is replayed to a machine that can read the ticket but is not the call's.
    let third = app.machine("0000000000000c", &[("TWILIO_AUTH_TOKEN", "54321,12345")]).await;
    let replayed = format!("fly-replay-src: instance={FIRST}\r\n");
    let (_, answer) = post(&app, &third.address, &path, CA1, &replayed).await;
    assert!(answer.contains("<Stream "), "the call's machine is asked: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_switch_under_fifty_calls() {
    rolling_switch(Switch { under_way: 50, new: 20, drain: 15, ring_for: Duration::from_secs(2) }).await;
}

/// For `make soak`: with the drain time of production.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes five minutes; `make soak` runs it"]
async fn a_long_rolling_switch() {
    rolling_switch(Switch { under_way: 100, new: 500, drain: 280, ring_for: Duration::from_secs(260) }).await;
}

struct Switch {
    /// Calls that run on the old machine.
    under_way: usize,
    /// Calls that begin while it drains.
    new: usize,
    drain: u64,
    ring_for: Duration,
}

async fn rolling_switch(switch: Switch) {
    let _alone = ALONE.lock().await;
    let app = App::new().await;
    let drain = switch.drain.to_string();
    let mut old = app.machine(FIRST, &[("DRAIN_SECONDS", &drain)]).await;
    // One in five stays until the server says goodbye. The others press a key during the drain, one after another.
    let mut staying = Vec::new();
    let mut leaving = Vec::new();
    for number in 0..switch.under_way {
        let phone = Phone::dial(app.long_call());
        if number % 5 == 0 { &mut staying } else { &mut leaving }.push(phone);
        sleep(Duration::from_millis(20)).await;
    }
    for phone in staying.iter().chain(&leaving) {
        assert!(
            timeout(PATIENCE, phone.wait_until_quiet(Duration::ZERO))
                .await
                .expect("the greeting ends in time")
        );
    }
    let new = app.machine(SECOND, &[]).await;
    old.signal("-TERM").await;
    let closed = Instant::now();
    while http(&old.address, "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.0 != 503 {
        assert!(closed.elapsed() < Duration::from_secs(2), "it stays ready after the signal");
    }
    // New calls arrive. Fly sends them to the draining machine until its health check notices.
    app.proxy.rule("/incoming-call", FIRST);
    let mut rings = tokio::task::JoinSet::new();
    let pause = switch.ring_for / u32::try_from(switch.new).unwrap();
    let leave_at_once = leaving.len().div_ceil(switch.new);
    let mut leaving = leaving.into_iter();
    for number in 0..switch.new {
        if number == switch.new / 2 {
            // The calls so far reached the draining machine first.
            until(|| app.proxy.seen().elsewhere("/incoming-call") >= number).await;
            app.proxy.cordon(FIRST);
        }
        rings.spawn(finished_call(app.short_call()));
        for phone in leaving.by_ref().take(leave_at_once) {
            phone.press('1');
            phone.press('#');
            rings.spawn(finished_long(phone));
        }
        sleep(pause).await;
    }
    assert!(leaving.next().is_none());
    for phone in staying {
        rings.spawn(finished_long(phone));
    }
    let longest = Duration::from_secs(switch.drain + 13);
    let code = old.ended((longest + Duration::from_secs(5)).saturating_sub(closed.elapsed())).await;
    let took = closed.elapsed();
    assert_eq!(code, Some(0), "{}", old.log());
    assert!(took < longest, "it ended after {took:?}");
    let records = timeout(PATIENCE, rings.join_all()).await.expect("all calls end");
    assert_eq!(records.len(), switch.under_way + switch.new);
    records.iter().for_each(assert_went_well);
    assert_each_ticket_once(&app.proxy, &records);
    report(&format!("a switch of {took:?}"), &records);
    // Callers who had pressed no key heard the server's goodbye, the others the assistant's.
    let drained = old.logged(r#""reason":"server.draining""#);
    let ended = old.logged(r#""reason":"assistant.ended""#);
    assert!(drained >= switch.under_way.div_ceil(5), "{drained} were drained");
    assert_eq!(drained + ended, switch.under_way, "{}", old.log());
    assert_eq!(new.logged("server.draining"), 0);
    assert_eq!(old.logged("5550100") + new.logged("5550100"), 0, "no number is logged");
}

async fn finished_call(options: PhoneOptions) -> CallRecord {
    finished(Phone::dial(options)).await
}

/// A call that may last as long as the drain.
async fn finished_long(phone: PhoneHandle) -> CallRecord {
    timeout(Duration::from_secs(400), phone.finished()).await.expect("the call ends in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_machine_ends_in_time_if_a_stream_never_comes() {
    let app = App::new().await;
    let mut machine = app.machine(FIRST, &[("DRAIN_SECONDS", "14")]).await;
    ring(&app, &machine, CA1).await;
    let closed = Instant::now();
    machine.signal("-TERM").await;
    assert_eq!(machine.ended(Duration::from_secs(20)).await, Some(0), "{}", machine.log());
    assert!(closed.elapsed() >= Duration::from_secs(13), "it waited while the ticket was valid");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_lost_its_stream_before_the_drain_begins_on_another_machine() {
    let app = App::new().await;
    let first = app.machine(FIRST, &[("DRAIN_SECONDS", "0")]).await;
    let second = app.machine(SECOND, &[]).await;
    let ticket = ring(&app, &first, CA1).await;
    // Another call keeps the machine running.
    ring(&app, &first, CA3).await;
    first.signal("-TERM").await;
    until(|| first.logged(log::DRAINING) == 1).await;
    // Twilio could not open the stream.
    let (status, answer) = post(&app, &first.address, &format!("/after-stream/{ticket}"), CA1, "").await;
    assert_eq!(status, 200);
    let redirect = format!("<Redirect method=\"POST\">{}/incoming-call</Redirect>", app.proxy.url);
    assert!(answer.contains(&redirect), "{answer}");
    // The call begins there, and may reach the draining machine again.
    let (_, answer) = post(&app, &first.address, "/incoming-call", CA1, "").await;
    assert!(answer.contains("fly-replay: elsewhere=true;"), "{answer}");
    let (_, answer) = post(&app, &second.address, "/incoming-call", CA1, "").await;
    assert!(answer.contains("<Stream "), "{answer}");
    // If no other machine answers, the number's fallback is used.
    let (status, _) = post(&app, &first.address, "/incoming-call", CA2, "fly-replay-failed: x\r\n").await;
    assert_eq!(status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_not_passed_between_draining_machines() {
    let app = App::new().await;
    let machines = [app.machine(FIRST, &[]).await, app.machine(SECOND, &[]).await];
    for machine in &machines {
        // A call keeps the machine running.
        ring(&app, machine, CA1).await;
        machine.signal("-TERM").await;
        until(|| machine.logged(log::DRAINING) == 1).await;
    }
    let address = app.proxy.url.trim_start_matches("http://");
    let (status, _) = post(&app, address, "/incoming-call", CA2, "").await;
    assert_eq!(
        (status, app.proxy.seen().elsewhere("/incoming-call")),
        (503, 3),
        "the number's fallback is used"
    );
}
