use crate::phone::PhoneNumber;
use jiff::tz;

use super::*;

const SECRET: &str = "secret";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn number(text: &str) -> Party {
    Party::Number(PhoneNumber::parse(text).unwrap())
}

fn after(began: Timestamp, seconds: i64) -> Timestamp {
    began + SignedDuration::from_secs(seconds)
}

/// One machine's limits, and the calls that it took.
struct Machine {
    limits: Limits,
    calls: u32,
}

impl Machine {
    fn new(cost_per_day: Option<f64>) -> Self {
        Self { limits: Limits::new(cost_per_day), calls: 0 }
    }

    /// A call rings: its record, or why not.
    fn rings(
        &mut self,
        assistant: &str,
        caller: &Party,
        gate: &Gate,
        now: Timestamp,
    ) -> Result<RecordId, Refusal> {
        self.calls += 1;
        let call = format!("CA{}", self.calls);
        self.rings_as(&call, assistant, caller, (gate, &TimeZone::UTC), now)
    }

    fn rings_as(
        &mut self,
        call: &str,
        assistant: &str,
        caller: &Party,
        gate: (&Gate, &TimeZone),
        now: Timestamp,
    ) -> Result<RecordId, Refusal> {
        let id = RecordId::new(now, rand::random());
        let ringing = Ringing { call, assistant, caller: Some(caller) };
        self.limits.admit(id.clone(), &ringing, Some(gate), now, || Some(()))?;
        Ok(id)
    }

    /// A call of this cost, which is over.
    fn call(&mut self, assistant: &str, caller: &Party, cost: f64, now: Timestamp) {
        let id = self.rings(assistant, caller, &Gate::default(), now).unwrap();
        self.limits.spent(&id, cost);
        self.limits.left(&id);
    }
}

/// A call of another machine, as the store has it.
fn counted(call: &str, owner: Owner, began: Timestamp, runs: bool, cost: f64) -> Counted {
    Counted {
        id: call.into(),
        call: call.to_owned(),
        assistant: "clinic".to_owned(),
        owner,
        began,
        runs,
        cost_nano: nano(cost),
    }
}

fn key(caller: &Party) -> Owner {
    Owner::Key(caller_key(&Secret::new(SECRET), caller.number().unwrap()))
}

#[test]
fn the_first_limit_that_is_reached_decides() {
    let gate = Gate {
        calls: Some(2),
        cost_per_day: Some(5.0),
        per_hour: Some(3),
        per_day: Some(6),
        count_withheld: true,
        block: Vec::new(),
    };
    let figures =
        |hour, day, running, cost, all| Figures { running, hour, day, cost: nano(cost), all: nano(all) };
    for (what, figures, expected) in [
        ("nothing", figures(0, 0, 0, 0.0, 0.0), None),
        ("one below each", figures(2, 5, 1, 4.999, 19.999), None),
        ("the hour", figures(3, 3, 0, 0.0, 0.0), Some(Refusal::Caller)),
        ("the caller's day", figures(0, 6, 0, 0.0, 0.0), Some(Refusal::Caller)),
        ("calls at once", figures(2, 5, 2, 0.0, 0.0), Some(Refusal::Calls)),
        ("the day's cost", figures(0, 0, 0, 5.0, 0.0), Some(Refusal::Cost)),
        ("of all assistants", figures(0, 0, 0, 0.0, 20.0), Some(Refusal::Cost)),
        ("the caller comes before the calls", figures(3, 3, 2, 9.0, 0.0), Some(Refusal::Caller)),
        ("the calls come before the cost", figures(0, 0, 9, 9.0, 0.0), Some(Refusal::Calls)),
    ] {
        assert_eq!(Limits::new(Some(20.0)).decide(&gate, &figures), expected, "{what}");
    }
    let much = figures(1_000, 1_000, 1_000, 1e6, 1e6);
    assert_eq!(Limits::new(None).decide(&Gate::default(), &much), None, "nothing is limited");
    // Places come last: whoever is refused anyway does not hear that all lines are busy.
    let limits = Limits::default();
    let ringing = Ringing { call: "CA1", assistant: "clinic", caller: None };
    let none = Gate { calls: Some(0), ..Gate::default() };
    let gates = [(none, Refusal::Calls), (Gate::default(), Refusal::Busy)];
    for (gate, expected) in gates {
        let gate = Some((&gate, &TimeZone::UTC));
        let admitted = limits.admit("01".into(), &ringing, gate, Timestamp::UNIX_EPOCH, || None::<()>);
        assert_eq!(admitted, Err(expected));
    }
    assert!(limits.ledger().calls.is_empty(), "who is refused does not count");
}

#[test]
fn blocked_callers_are_found_whatever_they_call_themselves() {
    let number = |text: &str| PhoneNumber::parse(text).unwrap();
    let block = vec![Blocked::Number(number("+15550100666")), Blocked::Prefix("+1900".to_owned())];
    let gate = Gate { block: block.clone(), ..Gate::default() };
    let withheld = Gate { block: [block, vec![Blocked::Withheld]].concat(), ..Gate::default() };
    for (from, is_in, is_in_with_withheld) in [
        ("+15550100666", true, true),
        ("+155501006660", false, false),
        ("+15550100667", false, false),
        ("+19005550100", true, true),
        ("+1900555", true, true),
        ("+1901555010", false, false),
        ("+44190055501", false, false),
        // The same numbers in an address.
        ("sip:+15550100666@example.com", true, true),
        ("sip:19005550100@example.com;user=phone", true, true),
        ("sip:+19005550100;npdi@example.com:5061;transport=tls", true, true),
        ("anonymous", false, true),
        ("+266696687", false, true),
        ("", false, true),
        ("sip:anonymous@anonymous.invalid", false, true),
        ("client:alice", false, false),
    ] {
        let caller = Party::from_twilio(from);
        assert_eq!(is_blocked(&gate, &caller), is_in, "{from}");
        assert_eq!(is_blocked(&withheld, &caller), is_in_with_withheld, "{from}");
    }
}

#[test]
fn a_caller_is_let_in_again_when_an_hour_has_passed() {
    let gate = Gate { per_hour: Some(2), per_day: Some(4), ..Gate::default() };
    let (caller, other) = (number("+15550100100"), number("+15550100101"));
    let began = time("2026-12-01T12:00:00Z");
    let mut machine = Machine::new(None);
    let mut at =
        |caller: &Party, seconds| machine.rings("clinic", caller, &gate, after(began, seconds)).err();
    assert_eq!([at(&caller, 0), at(&caller, 600)], [None, None]);
    // To try again and again prolongs nothing.
    for seconds in (700..3_600).step_by(100) {
        assert_eq!(at(&caller, seconds), Some(Refusal::Caller), "{seconds}");
    }
    assert_eq!(at(&other, 700), None, "another caller");
    assert_eq!(at(&caller, 3_600), None, "the first call was an hour ago");
    assert_eq!(at(&caller, 3_700), Some(Refusal::Caller), "the second was not");
    assert_eq!(at(&caller, 4_200), None);
    assert_eq!(at(&caller, 80_000), Some(Refusal::Caller), "four in 24 hours");
    assert_eq!(at(&caller, 86_400), None, "the first was yesterday");
    assert_eq!(machine.rings("pizzeria", &caller, &gate, after(began, 700)).err(), None, "another assistant");
}

#[test]
fn callers_without_a_number_are_one_where_the_file_says_so() {
    let one = Gate { per_hour: Some(2), count_withheld: true, ..Gate::default() };
    let began = time("2026-12-01T12:00:00Z");
    let callers = ["anonymous", "+266696687", "sip:alice@example.com", "client:bob"];
    let mut machine = Machine::new(None);
    let rings = callers.map(|from| machine.rings("clinic", &Party::from_twilio(from), &one, began).err());
    assert_eq!(rings, [None, None, Some(Refusal::Caller), Some(Refusal::Caller)]);
    assert_eq!(machine.rings("clinic", &number("+15550100100"), &one, began).err(), None);
    let not = Gate { count_withheld: false, ..one };
    for from in callers {
        assert_eq!(machine.rings("clinic", &Party::from_twilio(from), &not, began).err(), None, "{from}");
    }
}

#[test]
fn a_call_that_rings_again_or_elsewhere_counts_once() {
    let gate = Gate { calls: Some(1), per_hour: Some(1), ..Gate::default() };
    let caller = number("+15550100100");
    let now = time("2026-12-01T12:00:00Z");
    let mut machine = Machine::new(None);
    let mut ring = |call| machine.rings_as(call, "clinic", &caller, (&gate, &TimeZone::UTC), now);
    let first = ring("CA1").unwrap();
    let again = ring("CA1").expect("it is the same call");
    assert_eq!(ring("CA2"), Err(Refusal::Caller));
    let figures = |machine: &Machine| {
        let ringing = Ringing { call: "CA2", assistant: "clinic", caller: Some(&caller) };
        machine.limits.figures(&machine.limits.ledger(), &ringing, &gate, &TimeZone::UTC, now)
    };
    assert_eq!(figures(&machine), Figures { running: 1, hour: 1, day: 1, ..Figures::default() });
    // Each record has its own cost.
    machine.limits.spent(&first, 0.25);
    machine.limits.spent(&again, 0.5);
    machine.limits.left(&first);
    let cost = nano(0.75);
    assert_eq!(figures(&machine), Figures { running: 1, hour: 1, day: 1, cost, all: cost });
    machine.limits.left(&again);
    assert_eq!(figures(&machine).running, 0);
    // What is charged after the end counts, too.
    machine.limits.spent(&again, 0.75);
    assert_eq!(figures(&machine).cost, nano(1.0));
}

#[test]
fn what_others_did_counts_and_what_this_machine_wrote_does_not_count_again() {
    let gate = Gate { calls: Some(2), per_hour: Some(3), cost_per_day: Some(1.0), ..Gate::default() };
    let caller = number("+15550100100");
    let now = time("2026-12-01T12:00:00Z");
    let mut machine = Machine::new(None);
    let ours = machine.rings_as("CA1", "clinic", &caller, (&gate, &TimeZone::UTC), now).unwrap();
    machine.limits.spent(&ours, 0.2);
    let figures = |machine: &Machine| {
        let ringing = Ringing { call: "CA9", assistant: "clinic", caller: Some(&caller) };
        machine.limits.figures(&machine.limits.ledger(), &ringing, &gate, &TimeZone::UTC, now)
    };
    let mine = Counted { id: ours.clone(), ..counted("CA1", key(&caller), now, true, 0.1) };
    let theirs = counted("CA2", key(&caller), now, true, 0.3);
    let read = |machine: &Machine, calls: Vec<Counted>, whole| {
        machine.limits.read(calls, Secret::new(SECRET), whole);
        figures(machine)
    };
    let both = Figures { running: 2, hour: 2, day: 2, cost: nano(0.5), all: nano(0.5) };
    for whole in [true, false, true] {
        assert_eq!(read(&machine, vec![mine.clone(), theirs.clone()], whole), both);
    }
    // The other call costs more, then it is over; one whose machine died is over when it no longer runs.
    let dearer = Counted { cost_nano: nano(0.4), ..theirs.clone() };
    assert_eq!(read(&machine, vec![dearer.clone()], false).cost, nano(0.6));
    let over = Counted { runs: false, ..dearer };
    assert_eq!(read(&machine, vec![over], false).running, 1);
    assert_eq!(read(&machine, vec![theirs.clone()], false).running, 2);
    assert_eq!(read(&machine, Vec::new(), false), Figures { running: 1, ..both });
    // A reading of the whole day knows best what is left: the caller may have been erased.
    let alone = Figures { running: 1, hour: 1, day: 1, cost: nano(0.2), all: nano(0.2) };
    assert_eq!(read(&machine, Vec::new(), true), alone);
    // Nobody knows whose these are.
    let numberless = counted("CA3", Owner::Unknown, now, false, 0.0);
    let withheld = counted("CA4", Owner::Nobody, now, false, 0.0);
    assert_eq!(read(&machine, vec![numberless, withheld], false).day, 1);
}

#[test]
fn the_day_of_an_assistant_begins_at_its_midnight() {
    let berlin = tz::db().get("Europe/Berlin").unwrap();
    let sao_paulo = TimeZone::get("America/Sao_Paulo").unwrap();
    let gate = Gate { cost_per_day: Some(1.0), ..Gate::default() };
    let caller = number("+15550100100");
    for (what, zone, began, rings, is_today) in [
        ("before midnight", &berlin, "2026-12-01T22:59:59Z", "2026-12-01T23:00:00Z", false),
        ("at midnight", &berlin, "2026-12-01T23:00:00Z", "2026-12-02T22:59:59Z", true),
        // The clocks go forward on 29 March, a day of 23 hours, and back on 25 October, one of 25.
        ("the short day", &berlin, "2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z", true),
        ("after it", &berlin, "2026-03-29T21:59:59Z", "2026-03-29T22:00:00Z", false),
        ("the long day", &berlin, "2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z", true),
        ("after it", &berlin, "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", false),
        // A day that had no midnight: it began at 01:00.
        ("no midnight", &sao_paulo, "2018-11-04T02:59:59Z", "2018-11-04T03:00:00Z", false),
        ("no midnight", &sao_paulo, "2018-11-04T03:00:00Z", "2018-11-05T01:59:59Z", true),
    ] {
        let mut machine = Machine::new(None);
        machine.call("clinic", &caller, 1.0, time(began));
        let ring = machine.rings_as("CA9", "clinic", &caller, (&gate, zone), time(rings)).err();
        assert_eq!(ring, is_today.then_some(Refusal::Cost), "{what}, {rings}");
    }
}

#[test]
fn all_assistants_together_have_a_day_of_utc() {
    let (caller, gate) = (number("+15550100100"), Gate::default());
    let mut machine = Machine::new(Some(2.0));
    machine.call("clinic", &caller, 1.5, time("2026-12-01T00:00:00Z"));
    let mut ring = |now: &str| machine.rings("garage", &caller, &gate, time(now)).err();
    assert_eq!(ring("2026-12-01T10:00:00Z"), None);
    machine.call("pizzeria", &caller, 0.5, time("2026-12-01T10:00:00Z"));
    let mut ring = |now: &str| machine.rings("garage", &caller, &gate, time(now)).err();
    assert_eq!(ring("2026-12-01T23:59:59Z"), Some(Refusal::Cost));
    assert_eq!(ring("2026-12-02T00:00:00Z"), None);
}

#[test]
fn a_day_is_near_its_limit_from_80_percent_on() {
    let caller = number("+15550100100");
    let gate = Gate { cost_per_day: Some(1.0), ..Gate::default() };
    let mut machine = Machine::new(Some(10.0));
    let mut near = machine.limits.days_near();
    let mut look = |machine: &Machine, now: &str| {
        let assistants = [("clinic", &gate, &TimeZone::UTC), ("free", &Gate::default(), &TimeZone::UTC)];
        machine.limits.look(assistants.into_iter(), time(now));
        let changed = near.has_changed().unwrap();
        (near.borrow_and_update().0.iter().map(String::as_str).collect::<Vec<_>>().join(" "), changed)
    };
    let noon = "2026-12-01T12:00:00Z";
    machine.call("clinic", &caller, 0.79, time(noon));
    machine.call("free", &caller, 5.0, time(noon));
    assert_eq!(look(&machine, noon), (String::new(), false));
    machine.call("clinic", &caller, 0.01, time(noon));
    assert_eq!(look(&machine, noon), ("clinic".to_owned(), true));
    machine.call("free", &caller, 5.0, time(noon));
    assert_eq!(look(&machine, noon), (" clinic".to_owned(), true), "all of them, too");
    assert_eq!(look(&machine, noon), (" clinic".to_owned(), false), "it is said once");
    assert_eq!(look(&machine, "2026-12-02T00:00:00Z"), (String::new(), true), "a new day");
}

#[test]
fn what_no_longer_counts_is_forgotten() {
    let (caller, now) = (number("+15550100100"), time("2026-12-01T12:00:00Z"));
    let mut machine = Machine::new(None);
    let runs = machine.rings("clinic", &caller, &Gate::default(), now).unwrap();
    machine.call("clinic", &caller, 1.0, now);
    let known = |machine: &Machine| machine.limits.ledger().calls.len();
    machine.limits.forget(true, after(now, 25 * 3_600 - 1));
    assert_eq!(known(&machine), 2);
    machine.limits.forget(true, after(now, 25 * 3_600));
    assert_eq!(known(&machine), 1, "the call that runs");
    machine.call("clinic", &caller, 1.0, now);
    machine.limits.forget(false, now);
    assert_eq!(known(&machine), 1, "nothing is limited");
    machine.limits.left(&runs);
    machine.limits.forget(false, now);
    assert_eq!(known(&machine), 0);
}

#[test]
fn a_number_is_not_in_memory() {
    let mut machine = Machine::new(None);
    machine.call("clinic", &number("+15550100100"), 1.0, time("2026-12-01T12:00:00Z"));
    assert!(!format!("{:?}", machine.limits).contains("0100100"));
}
