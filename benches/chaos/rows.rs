//! All rows: each fault at its moments, once, twice or for ever, with and without a second provider.

use std::time::Duration;

use switchboard_simulator::model::{ConnectError, Fault, Moment, Point, Trouble, Which};

use super::row::{Does, Goal, Row, Scene};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const CREATED: Point = Point::Created;
const FIRST: Point = Point::Sound(Duration::ZERO);
/// In the middle of an answer of four seconds.
const MIDDLE: Point = Point::Sound(ms(1_000));
const SPEECH: Moment = Moment::Speech(ms(500));
const START: Moment = Moment::After(Duration::ZERO);
const FOREVER: Duration = Duration::from_secs(3_600);
/// The greeting, the first answer and the call of the function come before it.
const AFTER_TOOL: Moment = Moment::Response(Which::Nth(4), CREATED);

/// The moments of a call, and their names.
fn moments() -> [(Moment, &'static str); 6] {
    [
        (START, "ringing"),
        (Moment::greeting(MIDDLE), "in the greeting"),
        (SPEECH, "the caller speaks"),
        (Moment::answer(MIDDLE), "in an answer"),
        (Moment::Tool, "a function runs"),
        (Moment::goodbye(FIRST), "in the goodbye"),
    ]
}

/// Every row.
pub fn all() -> Vec<Row> {
    let parts =
        [closes(), silent_sockets(), connecting(), ears(), responses(), errors(), phones(), processes()];
    parts.into_iter().flatten().collect()
}

/// A row at a moment, once. In the goodbye the conversation is over.
fn once(what: &'static str, (moment, when): (Moment, &'static str), trouble: Trouble) -> Row {
    let goal = if when == "in the goodbye" { Goal::Ends } else { Goal::Survives };
    Row::new(what, when).fault(Fault::once(moment, trouble)).goal(goal)
}

/// A row that nothing but another provider can help, and the same with that provider.
fn with_and_without(row: Row) -> [Row; 2] {
    let with = row.with_fallback();
    [row.goal(Goal::Ends), with]
}

/// The ways in which a socket closes.
fn closes() -> Vec<Row> {
    let answer = (Moment::answer(MIDDLE), "in an answer");
    let made = (Moment::answer(Point::Made), "an answer is all made");
    let mut rows = Vec::new();
    for (what, code) in [
        ("close 1000", 1000),
        ("close 1001", 1001),
        ("close 1008", 1008),
        ("close 1011", 1011),
        ("close 1012", 1012),
        ("close 1013", 1013),
        ("close 4000", 4000),
    ] {
        rows.push(once(what, answer, Trouble::Close(code, "")));
    }
    rows.push(once("close 1011", made, Trouble::Close(1011, "")));
    rows.push(once("reset", made, Trouble::Reset));
    rows.extend(moments().map(|at| once("reset", at, Trouble::Reset)));
    let answers = Moment::answer(MIDDLE);
    rows.push(Row::new("reset, twice", "in an answer").fault(Fault::twice(answers, Trouble::Reset)));
    rows.extend(with_and_without(
        Row::new("reset, always", "in an answer").fault(Fault::always(answers, Trouble::Reset)),
    ));
    rows.extend(with_and_without(
        Row::new("close 1011, always", "ringing").fault(Fault::always(START, Trouble::Close(1011, ""))),
    ));
    rows.push(once("session expired", answer, Trouble::Fatal("session_expired")));
    rows.push(once("session expired", (SPEECH, "the caller speaks"), Trouble::Fatal("session_expired")));
    rows.push(once("session expired", (Moment::Tool, "a function runs"), Trouble::Fatal("session_expired")));
    rows.push(
        Row::new("sessions last 12 s", "all the time").model(|options| options.session_cap = ms(12_000)),
    );
    rows.push(
        once("reset, then text only", answer, Trouble::Reset).model(|options| options.text_after_seed = true),
    );
    rows
}

/// Sockets that stay and say nothing.
fn silent_sockets() -> Vec<Row> {
    let mut rows: Vec<Row> = moments().map(|at| once("half-open", at, Trouble::HalfOpen)).into();
    rows.extend(moments().map(|at| once("pongs only", at, Trouble::Stalled)));
    for (what, trouble) in
        [("half-open, always", Trouble::HalfOpen), ("pongs only, always", Trouble::Stalled)]
    {
        let row = Row::new(what, "the caller speaks").fault(Fault::always(SPEECH, trouble));
        rows.extend(with_and_without(row));
    }
    rows
}

/// Connections that do not come about.
fn connecting() -> Vec<Row> {
    let ringing = |what| Row::new(what, "ringing");
    let habit = |what, fault: Fault| with_and_without(ringing(what).fault(fault));
    let mut rows = vec![
        ringing("refused for 1.5 s").act(Scene::Ring, Does::Refuse(ms(1_500))),
        ringing("upgrade 503, once")
            .fault(Fault::UpgradeStatus(503))
            .model(|options| options.faulty_connections = Some(1)),
        ringing("upgrade 429, once")
            .fault(Fault::UpgradeStatus(429))
            .model(|options| options.faulty_connections = Some(1)),
        ringing("handshake of 2 s").fault(Fault::SlowHandshake(ms(2_000))),
        ringing("no session.created, once")
            .fault(Fault::NoCreated)
            .model(|options| options.faulty_connections = Some(1)),
        Row::new("provider down for 4 s", "in an answer").act(Scene::Answer, Does::Down(ms(4_000))),
    ];
    let down = Does::Down(FOREVER);
    rows.extend(with_and_without(Row::new("provider down", "in an answer").act(Scene::Answer, down)));
    rows.extend(with_and_without(Row::new("provider down", "a function runs").act(Scene::Tool, down)));
    rows.extend(with_and_without(ringing("refused").act(Scene::Ring, Does::Refuse(FOREVER))));
    rows.extend(habit("accepted, then nothing", Fault::SilentTcp));
    rows.extend(habit("upgrade 401", Fault::UpgradeStatus(401)));
    rows.extend(habit("upgrade 500", Fault::UpgradeStatus(500)));
    rows.extend(habit("wrong key", Fault::RefuseConnect(ConnectError::InvalidKey)));
    rows.extend(habit("no credit", Fault::RefuseConnect(ConnectError::InsufficientQuota)));
    rows.extend(habit("model gone", Fault::RefuseConnect(ConnectError::UnknownModel)));
    rows.extend(habit("no session.updated", Fault::NoUpdated));
    rows.push(once("rate limit", (START, "ringing"), Trouble::Fatal("rate_limit_exceeded")));
    rows
}

/// Voice detection that is wrong.
fn ears() -> Vec<Row> {
    let answer = Moment::answer(FIRST);
    let greeting = Moment::greeting(FIRST);
    let endless = Trouble::EndlessSpeech(None);
    vec![
        once("no speech_stopped", (SPEECH, "the caller speaks"), endless),
        Row::new("no speech_stopped, always", "the caller speaks").fault(Fault::always(SPEECH, endless)),
        once("phantom speech_started", (answer, "in an answer"), endless),
        Row::new("phantom speech_started, twice", "in an answer").fault(Fault::twice(answer, endless)),
        once("phantom speech_started", (greeting, "in the greeting"), endless),
        once("phantom speech_started", (Moment::Tool, "a function runs"), endless),
        once("speech of 90 s", (SPEECH, "the caller speaks"), Trouble::EndlessSpeech(Some(ms(90_000)))),
        once("deaf", (START, "ringing"), Trouble::Deaf),
        once("deaf", (SPEECH, "the caller speaks"), Trouble::Deaf),
        once("deaf", (Moment::Tool, "a function runs"), Trouble::Deaf),
    ]
}

/// Responses that bring no sound, or too little.
fn responses() -> Vec<Row> {
    let mut rows = Vec::new();
    for (what, trouble) in [
        ("empty response", Trouble::Empty),
        ("text only", Trouble::TextOnly),
        ("digital silence", Trouble::Silent),
        ("transcript without sound", Trouble::WordsOnly),
        ("endless arguments", Trouble::EndlessArguments),
        ("no deltas", Trouble::Mute),
        ("sound after 5 s", Trouble::Late(ms(5_000))),
    ] {
        rows.push(once(what, (Moment::greeting(CREATED), "the greeting"), trouble));
        rows.push(once(what, (Moment::answer(CREATED), "an answer"), trouble));
    }
    for (what, trouble) in [
        ("empty response, always", Trouble::Empty),
        ("no deltas, always", Trouble::Mute),
        ("sound after 30 s, always", Trouble::Late(ms(30_000))),
    ] {
        let answers = Moment::Response(Which::Any, CREATED);
        rows.extend(with_and_without(
            Row::new(what, "every response").fault(Fault::always(answers, trouble)),
        ));
    }
    rows.push(once("empty response", (AFTER_TOOL, "after a function"), Trouble::Empty));
    rows.push(once("no deltas", (AFTER_TOOL, "after a function"), Trouble::Mute));
    rows.push(once("empty response", (Moment::goodbye(CREATED), "in the goodbye"), Trouble::Empty));
    rows.push(once("no deltas", (Moment::goodbye(CREATED), "in the goodbye"), Trouble::Mute));
    rows.push(once("no more deltas", (Moment::answer(MIDDLE), "in an answer"), Trouble::Mute));
    rows.push(once("silence from 1 s", (Moment::answer(MIDDLE), "in an answer"), Trouble::Silent));
    rows.push(once(
        "failed after 1 s",
        (Moment::answer(MIDDLE), "in an answer"),
        Trouble::Failed("server_error"),
    ));
    rows.push(once("cancelled after 1 s", (Moment::answer(MIDDLE), "in an answer"), Trouble::Cancelled));
    rows.push(once("cancelled", (Moment::greeting(MIDDLE), "in the greeting"), Trouble::Cancelled));
    let cut = Trouble::Incomplete("max_output_tokens");
    rows.push(once("max_output_tokens after 1 s", (Moment::answer(MIDDLE), "in an answer"), cut));
    let filtered = Trouble::Incomplete("content_filter");
    rows.push(once("content_filter", (Moment::answer(CREATED), "an answer"), filtered));
    rows.push(once("content_filter after 1 s", (Moment::answer(MIDDLE), "in an answer"), filtered));
    rows
}

/// Each class of error.
fn errors() -> Vec<Row> {
    let every = Moment::Response(Which::Any, CREATED);
    let answers = Moment::answer(CREATED);
    let asked = Moment::Request(Which::Any);
    let failed = |code| Trouble::Failed(code);
    let busy = Trouble::Refused("conversation_already_has_active_response");
    let mut rows = vec![
        Row::new("rate limit for 1.5 s", "every response").fault(Fault::lasting(
            ms(1_500),
            every,
            failed("rate_limit_exceeded"),
        )),
        once("server error", (answers, "an answer"), failed("server_error")),
        Row::new("server error, twice", "an answer").fault(Fault::twice(answers, failed("server_error"))),
        once("server error", (Moment::greeting(CREATED), "the greeting"), failed("server_error")),
        once("server error", (AFTER_TOOL, "after a function"), failed("server_error")),
        once("server error", (Moment::goodbye(CREATED), "in the goodbye"), failed("server_error")),
        once("unknown error", (answers, "an answer"), failed("tide_unfavourable")),
        // Every provider would answer the same.
        once("policy", (answers, "an answer"), failed("content_policy_violation")).goal(Goal::Ends),
        once(
            "request refused",
            (Moment::Request(Which::Any), "the greeting"),
            Trouble::Refused("server_error"),
        ),
        Row::new("conflict for 3 s", "every request").fault(Fault::lasting(ms(3_000), asked, busy)),
        Row::new("conflict until cancelled", "every request").fault(Fault::always(asked, Trouble::Conflict)),
    ];
    for (what, code) in [
        ("rate limit, always", "rate_limit_exceeded"),
        ("server error, always", "server_error"),
        ("no credit, always", "insufficient_quota"),
        ("unknown error, always", "tide_unfavourable"),
    ] {
        let row = Row::new(what, "every response").fault(Fault::always(every, failed(code)));
        rows.extend(with_and_without(row));
    }
    rows.extend(with_and_without(
        Row::new("conflict, always", "every request").fault(Fault::always(asked, busy)),
    ));
    let slow = Row { function: ms(9_000), ..Row::new("a function takes 9 s", "a function runs") };
    rows.push(slow);
    rows
}

/// Twilio's side.
fn phones() -> Vec<Row> {
    let row = |what, when, scene, does| Row::new(what, when).act(scene, does);
    let media = Does::NoMedia(ms(15_000));
    let broken = Does::BreakStream(Duration::ZERO);
    let half_open = Does::BreakStream(ms(5_000));
    vec![
        row("no media for 15 s", "the caller speaks", Scene::Speech, media),
        row("no media for 15 s", "a pause", Scene::Pause, media),
        row("no media for 1 s", "the caller speaks", Scene::Speech, Does::NoMedia(ms(1_000))),
        row("stream breaks", "in the greeting", Scene::Greeting, broken),
        row("stream breaks", "the caller speaks", Scene::Speech, broken),
        row("stream breaks", "in an answer", Scene::Answer, broken),
        row("stream breaks", "a function runs", Scene::Tool, broken),
        row("stream breaks", "in the goodbye", Scene::Goodbye, broken).goal(Goal::Ends),
        row("stream half-open for 5 s", "in an answer", Scene::Answer, half_open).goal(Goal::Shown),
        row("hold music for 90 s", "a pause", Scene::Pause, Does::Music(ms(90_000)))
            .goal(Goal::EndsAs("limit.silence")),
    ]
}

/// The process itself. Only printed.
fn processes() -> Vec<Row> {
    let signal = |what, when, scene, signal, long| {
        Row::new(what, when).act(scene, Does::Signal(signal, long)).goal(Goal::Shown)
    };
    vec![
        signal("the machine hangs for 2 s", "in an answer", Scene::Answer, "-STOP", ms(2_000)),
        signal("the machine hangs for 8 s", "in an answer", Scene::Answer, "-STOP", ms(8_000)),
        signal("drain", "in an answer", Scene::Answer, "-TERM", Duration::ZERO),
        signal("kill -9", "in an answer", Scene::Answer, "-KILL", Duration::ZERO),
    ]
}
