//! What we send to the model, by dialect, and what its events become.

use serde_json::{Value, json};
use tokio::net::TcpStream;

use std::future::poll_fn;

use super::*;
use crate::assistant::language::Language;
use crate::assistant::plan::{
    AskFirst, Effort, Hosted, Job, Nothing, Reach, Rule, Server, Tool, Transcription, Work,
};
use crate::assistant::{Facts, Folder, Roster};
use crate::call::{EndReason, Line, TransferFailure, Truncation, TurnControl};
use crate::link::network;
use crate::link::outbox::tests::a_peer_that_pings_and_never_reads;
use crate::phone::Party;
use crate::provider::{Dialect, Provider};
use crate::secret::Secret;
use crate::yaml::SourceFile;

mod failures;
mod limits;
mod openai;
mod seed;

const WHOLE: LeftOut = LeftOut { options: false, servers: false };
const PLAIN: LeftOut = LeftOut { options: true, servers: false };

/// A plan with all options, for a provider of this dialect that accepts them all.
pub(super) fn plan(dialect: Dialect) -> Plan {
    let text = "instructions: Be kind.\ncall_control: { end_call: true }\nspeed: 1.2\nreasoning: high\n";
    let assistants = vec![SourceFile::new("clinic.yaml", text)];
    let folder = Folder { assistants, ..Folder::default() };
    let mut provider = Provider::openai("ws://127.0.0.1:1", None);
    let roster = Roster::check(&folder, &Default::default(), &[Arc::new(provider.clone())]).roster.unwrap();
    let facts = Facts {
        caller: Party::Withheld,
        called: Party::Withheld,
        call: "CA00000000000000000000000000000001".to_owned(),
        now: "2026-03-03T14:05:00Z".parse().unwrap(),
    };
    let mut plan = roster.by_name("clinic").unwrap().plan(&facts, &Nothing).unwrap();
    provider.dialect = dialect;
    provider.abilities.temperature = Some(0.0..=2.0);
    provider.abilities.hosted_mcp = true;
    plan.provider = Arc::new(provider);
    plan.temperature = Some(0.7);
    plan.reasoning = Some(Effort::High);
    plan.transcription = Some(Transcription { model: "ears".to_owned(), language: Some("en".to_owned()) });
    plan
}

#[test]
fn a_session_is_configured_in_every_dialect() {
    let sessions: Vec<String> = Dialect::ALL
        .into_iter()
        .flat_map(|dialect| [(dialect, WHOLE), (dialect, PLAIN)])
        .map(|(dialect, left_out)| {
            let session = session(&plan(dialect), TurnControl::Model, left_out);
            let name = if left_out == PLAIN { "plainer " } else { "" };
            format!("{name}{}: {}", dialect.name(), serde_json::to_string_pretty(&session).unwrap())
        })
        .collect();
    insta::assert_snapshot!(sessions.join("\n"));
}

#[test]
fn every_request_for_speech_names_the_language() {
    let mut plan = plan(Dialect::Ga);
    let requests = [
        Request::CheckCaller { heard: false },
        Request::Filler,
        Request::StatusUpdate,
        Request::ToolTimedOut,
        Request::Goodbye(EndReason::LimitSilence),
    ];
    for (tag, named) in
        [(None, "language of the conversation"), (Some("de-AT"), "German"), (Some("cs"), "`cs`")]
    {
        plan.language = tag.map(|tag| Language::read(tag).unwrap());
        for request in &requests {
            let asked = wording(request, &tongue(&plan));
            assert!(asked.contains(named), "{asked}");
        }
    }
}

#[test]
fn a_temperature_is_sent_only_if_the_provider_accepts_one() {
    for dialect in Dialect::ALL {
        let mut plan = plan(dialect);
        assert_eq!(session(&plan, TurnControl::Model, PLAIN)["temperature"], 0.7, "{dialect:?}");
        let mut provider = Provider::clone(&plan.provider);
        provider.abilities.temperature = None;
        plan.provider = Arc::new(provider);
        assert_eq!(session(&plan, TurnControl::Model, WHOLE).get("temperature"), None, "{dialect:?}");
    }
}

#[test]
fn turn_detection_is_updated_in_every_dialect() {
    for (dialect, at) in [
        (Dialect::Ga, "/audio/input/turn_detection"),
        (Dialect::Beta, "/turn_detection"),
        (Dialect::Xai, "/turn_detection"),
    ] {
        let update = configure::turns_alone(&plan(dialect), TurnControl::Server);
        let detection = update.pointer(at).unwrap_or(&Value::Null);
        assert_eq!(detection["create_response"], json!(false), "{dialect:?}");
        assert_eq!(update.get("type").is_some(), dialect == Dialect::Ga);
    }
}

#[test]
fn a_line_of_the_assistant_has_the_type_of_its_dialect() {
    for (dialect, kind) in
        [(Dialect::Ga, "output_text"), (Dialect::Beta, "text"), (Dialect::Xai, "output_text")]
    {
        let line: Value = serde_json::from_str(&configure::assistant_text(&plan(dialect), "Hello.")).unwrap();
        assert_eq!(line["item"]["content"][0], json!({"type": kind, "text": "Hello."}), "{dialect:?}");
    }
}

/// A minimal hosted server, and one with all options.
fn servers() -> Vec<Hosted> {
    let plain = Hosted {
        label: "crm".to_owned(),
        url: "https://crm.example.com/mcp".to_owned(),
        authorization: None,
        headers: Vec::new(),
        allowed: None,
        ask_first: AskFirst::Never,
    };
    let full = Hosted {
        label: "todoist".to_owned(),
        url: "https://todo.example.com/mcp".to_owned(),
        authorization: Some(Secret::new("t-1")),
        headers: vec![("X-Tenant".to_owned(), Secret::new("7"))],
        allowed: Some(vec!["find".to_owned(), "make".to_owned()]),
        ask_first: AskFirst::Of(vec!["make".to_owned()]),
    };
    vec![plain, full]
}

#[test]
fn hosted_servers_are_sent_only_if_the_provider_supports_them() {
    for dialect in Dialect::ALL {
        let mut plan = plan(dialect);
        plan.hosted = servers();
        let named = |plan: &Plan, left_out| {
            let session = session(plan, TurnControl::Model, left_out);
            let tools = session["tools"].as_array().unwrap().clone();
            tools.into_iter().filter(|tool| tool["type"] == "mcp").collect::<Vec<_>>()
        };
        assert_eq!(
            named(&plan, WHOLE),
            [
                json!({
                    "type": "mcp", "server_label": "crm", "server_url": "https://crm.example.com/mcp",
                    "require_approval": "never",
                }),
                json!({
                    "type": "mcp", "server_label": "todoist", "server_url": "https://todo.example.com/mcp",
                    "authorization": "t-1", "headers": {"X-Tenant": "7"}, "allowed_tools": ["find", "make"],
                    "require_approval": {
                        "always": {"tool_names": ["make"]}, "never": {"tool_names": ["find"]},
                    },
                }),
            ],
            "{dialect:?}"
        );
        assert_eq!(named(&plan, PLAIN).len(), 2, "{dialect:?}");
        assert!(named(&plan, LeftOut { servers: true, ..WHOLE }).is_empty(), "{dialect:?}");
        let mut provider = Provider::clone(&plan.provider);
        provider.abilities.hosted_mcp = false;
        plan.provider = Arc::new(provider);
        assert!(named(&plan, WHOLE).is_empty(), "{dialect:?}");
    }
    let always = Hosted { ask_first: AskFirst::Always, ..servers().remove(0) };
    let mut plan = plan(Dialect::Ga);
    plan.hosted = vec![always];
    assert_eq!(session(&plan, TurnControl::Model, WHOLE)["tools"][1]["require_approval"], "always");
}

/// A tool of an MCP server whose client we are.
fn fetched() -> Tool {
    let server = Server {
        name: "notes".to_owned(),
        reach: Reach::Url { url: "https://notes.example.com/mcp".to_owned(), headers: Vec::new() },
    };
    Tool {
        name: "search".to_owned(),
        description: "Searches.".to_owned(),
        parameters: serde_json::Map::new(),
        arguments: None,
        rule: Rule::default(),
        work: Work::Job(Arc::new(Job::Mcp {
            server: Arc::new(server),
            tool: "search".to_owned(),
            fixed: serde_json::Map::new(),
        })),
    }
}

async fn step(link: &mut ModelLink) -> ModelStep {
    poll_fn(|cx| link.poll_step(&Span::none(), cx)).await
}

#[tokio::test]
async fn a_rejected_configuration_is_tried_again_without_a_part_of_it() {
    let option = r#"{"type":"error","error":{"code":"invalid_value","param":"session.reasoning"}}"#;
    let schema = r#"{"type":"error","error":{"code":"invalid_function_parameters","param":"session.tools[2].parameters"}}"#;
    let no_credit = r#"{"type":"error","error":{"code":"insufficient_quota"}}"#;
    let overloaded = r#"{"type":"error","error":{"type":"server_error","code":null}}"#;
    let all = &["options", "ours", "search", "crm", "todoist"][..];
    let (plain, no_servers, least) = (&all[1..], &all[..2], &all[1..2]);
    for (what, has_servers, rejections, sent) in [
        ("taken", true, &[][..], &[all][..]),
        ("an option", true, &[option], &[all, plain]),
        ("something else", true, &[option, option], &[all, plain, least]),
        ("a tool", true, &[schema], &[all, no_servers]),
        ("a tool and an option", true, &[schema, option], &[all, no_servers, least]),
        ("an option and a tool", true, &[option, schema], &[all, plain, least]),
        ("everything", true, &[option, schema, schema], &[all, plain, least]),
        ("no credit", true, &[no_credit], &[all]),
        ("too much to do", true, &[overloaded], &[all]),
        ("a tool of ours", false, &[schema], &[no_servers, least]),
        ("a tool of ours, always", false, &[schema, schema], &[no_servers, least]),
    ] {
        let mut plan = plan(Dialect::Ga);
        if has_servers {
            plan.tools.push(fetched());
            plan.hosted = servers();
        }
        let (updates, link) = configurations(plan, rejections).await;
        let updates: Vec<Vec<&str>> = updates.iter().map(parts).collect();
        assert_eq!(updates, sent, "{what}");
        match link {
            Ok(link) => assert_eq!(link.is_plainer(), sent.len() > 1, "{what}"),
            Err(error) => {
                let lost = EndReason::from(&error.lost());
                let expected = match what {
                    "no credit" => EndReason::ModelRefused,
                    "too much to do" => EndReason::ModelUnreachable,
                    _ => EndReason::ModelMisconfigured,
                };
                assert_eq!((lost, rejections.len()), (expected, sent.len()), "{what}");
            }
        }
    }
}

#[test]
fn what_is_left_out_is_described() {
    let mut plan = plan(Dialect::Ga);
    let least = LeftOut { options: true, servers: true };
    assert_eq!(least.described(&plan), "transcription, noise reduction, speed and reasoning");
    plan.tools.push(fetched());
    plan.hosted = servers();
    assert_eq!(
        least.described(&plan),
        "transcription, noise reduction, speed and reasoning; the tools of crm, notes, todoist"
    );
    assert_eq!(LeftOut { servers: true, ..WHOLE }.described(&plan), "the tools of crm, notes, todoist");
}

/// The parts of a configuration, by names of this test.
fn parts(session: &Value) -> Vec<&str> {
    let tools = session["tools"].as_array().unwrap().iter();
    let name = |tool: &'_ Value| match tool["name"].as_str() {
        Some("end_call") => "ours",
        Some("search") => "search",
        _ if tool["server_label"] == "crm" => "crm",
        _ => "todoist",
    };
    let options = session.get("reasoning").map(|_| "options");
    options.into_iter().chain(tools.map(name)).collect()
}

/// The configurations that a link sends if the first ones are answered with `rejections`, and the link.
async fn configurations(
    plan: Plan,
    rejections: &[&'static str],
) -> (Vec<Value>, Result<ModelLink, NotConnected>) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let plan = placed(plan, &listener);
    let server = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
        socket.send(Message::Text(r#"{"type":"session.created","session":{}}"#.into())).await.unwrap();
        let mut rejections = rejections.iter();
        let mut sent = Vec::new();
        loop {
            let Some(Ok(Message::Text(update))) = socket.next().await else { return sent };
            sent.push(serde_json::from_str::<Value>(&update).unwrap()["session"].take());
            match rejections.next() {
                Some(rejection) => socket.send(Message::Text((*rejection).into())).await.unwrap(),
                None => {
                    let taken = r#"{"type":"session.updated","session":{}}"#;
                    socket.send(Message::Text(taken.into())).await.unwrap();
                    return sent;
                }
            }
        }
    };
    let (link, sent) = tokio::join!(ModelLink::connect(Arc::new(plan), tls()), server);
    (sent, link)
}

#[tokio::test]
async fn a_network_fault_leaves_the_model_unreachable() {
    // A DNS label has at most 63 characters, so no resolver is asked.
    let nowhere = format!("ws://{}.example.com/v1", "a".repeat(64));
    for (url, fault) in [
        (nowhere, network::Fault::DnsFailed),
        ("ws://127.0.0.1:1/v1".to_owned(), network::Fault::ConnectionRefused),
    ] {
        let mut plan = plan(Dialect::Ga);
        plan.provider = Arc::new(Provider { url, ..Provider::clone(&plan.provider) });
        let error = ModelLink::connect(Arc::new(plan), tls()).await.err().unwrap();
        assert_eq!((&error, error.lost().loss), (&NotConnected::Network(fault), Loss::Unreachable));
        assert!(error.is_temporary());
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_takes_long_is_used_unless_another_attempt_is_faster() {
    let after = async |seconds: u64, result: Result<u8, u8>| {
        sleep(Duration::from_secs(seconds)).await;
        result
    };
    for (first, second, expected) in [
        ((4, Ok(1)), (0, Ok(2)), (4, Ok(1))),
        ((4, Err(1)), (0, Ok(2)), (4, Err(1))), // Whoever called decides what follows.
        ((14, Ok(1)), (60, Ok(2)), (14, Ok(1))),
        ((14, Ok(1)), (2, Err(2)), (14, Ok(1))),
        ((18, Ok(1)), (2, Ok(2)), (12, Ok(2))),
    ] {
        let began = tokio::time::Instant::now();
        let result = patiently(after(first.0, first.1), || after(second.0, second.1)).await;
        assert_eq!((began.elapsed().as_secs(), result), expected, "{first:?} {second:?}");
    }
}

#[tokio::test]
async fn a_flood_of_frames_does_not_extend_the_limit() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let provider = placed(plan(Dialect::Ga), &listener).provider.clone();
    let flood = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
        while socket.send(Message::Text(r#"{"type":"rate_limits.updated"}"#.into())).await.is_ok() {}
    };
    let opened = async {
        let later = tokio::time::Instant::now() + ATTEMPT;
        let (mut socket, _) = open(&provider, "m", false, tls(), later).await.unwrap();
        let soon = tokio::time::Instant::now() + Duration::from_millis(50);
        until_created(&mut socket, provider.dialect, soon).await
    };
    let (created, ()) = tokio::join!(timeout(ATTEMPT, opened), flood);
    assert_eq!(created.unwrap(), Err(NotConnected::Late { garbage: 0 }));
}

/// The plan with its provider at this address.
fn placed(mut plan: Plan, listener: &tokio::net::TcpListener) -> Plan {
    let mut provider = Provider::clone(&plan.provider);
    provider.url = format!("ws://{}", listener.local_addr().unwrap());
    plan.provider = Arc::new(provider);
    plan
}

fn tls() -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Arc::new(config)
}

/// A link and the other end of its socket.
pub(super) async fn linked(plan: Plan) -> (ModelLink, tokio_tungstenite::WebSocketStream<TcpStream>) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let plan = placed(plan, &listener);
    let server = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
        socket.send(Message::Text(r#"{"type":"session.created","session":{}}"#.into())).await.unwrap();
        socket.next().await.unwrap().unwrap();
        socket.send(Message::Text(r#"{"type":"session.updated","session":{}}"#.into())).await.unwrap();
        socket
    };
    let (link, socket) = tokio::join!(ModelLink::connect(Arc::new(plan), tls()), server);
    (link.unwrap(), socket)
}

#[tokio::test]
async fn a_model_that_pings_and_never_reads_is_cut_off() {
    if !crate::process::is_alone("link::model::tests::a_model_that_pings_and_never_reads_is_cut_off") {
        return;
    }
    let (mut link, socket) = linked(plan(Dialect::Ga)).await;
    let asks = async { drop(step(&mut link).await) };
    a_peer_that_pings_and_never_reads(socket.into_inner(), false, asks).await;
    // What we want to say then waits, too.
    link.ask();
    assert!(poll_fn(|cx| Poll::Ready(link.poll_step(&Span::none(), cx).is_pending())).await);
    let stuck = link.alive_deadline().unwrap();
    assert!(stuck - now() <= Duration::from_secs(10));
    assert!(link.check_alive(stuck - Duration::from_millis(1)));
    assert!(!link.check_alive(stuck));
}

#[tokio::test]
async fn tool_calls_become_events() {
    let mut plan = plan(Dialect::Ga);
    plan.hosted = servers();
    let (mut link, mut socket) = linked(plan).await;
    let frames = [
        r#"{"type":"response.created","response":{"id":"r1"}}"#,
        r#"{"type":"response.output_item.done","response_id":"r1","item":{"type":"function_call","call_id":"c1","name":"find","arguments":"{\"a\":1}"}}"#,
        // Some providers report a hosted tool only in the conversation.
        r#"{"type":"conversation.item.added","item":{"id":"mcp_1","type":"mcp_call","name":"find","output":null}}"#,
        r#"{"type":"response.mcp_call.failed","item_id":"mcp_1"}"#,
        r#"{"type":"conversation.item.done","item":{"id":"mcpr_1","type":"mcp_approval_request","server_label":"crm","name":"make","arguments":"{}"}}"#,
        r#"{"type":"response.done","response":{"id":"r1","status":"completed","output":[
            {"type":"function_call","call_id":"c1","name":"find","arguments":"{\"a\":1}"},
            {"id":"mcp_1","type":"mcp_call","output":null},
            {"id":"mcp_2","type":"mcp_call","output":"x"},
            {"id":"mcpr_1","type":"mcp_approval_request","server_label":"crm","name":"make","arguments":"{}"}]}}"#,
    ];
    for frame in frames {
        socket.send(Message::Text(frame.into())).await.unwrap();
    }
    let mut events = Vec::new();
    loop {
        let ModelStep::Event(event) = timeout(Duration::from_secs(5), step(&mut link)).await.unwrap() else {
            panic!("an event")
        };
        if let Event::ToolRequested { arguments, .. } = &event {
            assert_eq!(arguments.expose(), r#"{"a":1}"#);
        }
        let last = matches!(event, Event::ResponseEnded { .. });
        events.push(format!("{event:?}"));
        if last {
            break;
        }
    }
    insta::assert_snapshot!(events.join("\n"));
}

#[tokio::test]
async fn requests_of_the_call_reach_the_model() {
    for dialect in Dialect::ALL {
        let (mut link, mut socket) = linked(plan(dialect)).await;
        link.answer_approval(&"mcpr_1".into(), false, "Ask first.");
        link.say(&Request::Filler);
        link.say(&Request::CheckCaller { heard: false });
        link.ask();
        link.tell(&Line::TransferFailed { target: "reception".to_owned(), why: TransferFailure::Busy });
        let mut read = async || {
            let frame = tokio::select! {
                frame = socket.next() => frame.unwrap().unwrap(),
                step = step(&mut link) => panic!("{step:?}"),
            };
            serde_json::from_str::<Value>(frame.to_text().unwrap()).unwrap()
        };
        let approval = read().await;
        assert_eq!(
            approval["item"],
            json!({
                "id": "mcpa_mcpr_1", "type": "mcp_approval_response", "approval_request_id": "mcpr_1",
                "approve": false,
                "reason": "Ask first.",
            })
        );
        let filler = read().await;
        let none = if dialect == Dialect::Xai { Value::Null } else { json!("none") };
        assert_eq!(filler["response"]["tool_choice"], none, "{dialect:?}");
        let instructions = filler["response"]["instructions"].as_str().unwrap();
        assert!(instructions.contains("Be kind."), "the whole prompt goes with the request");
        let purpose = |frame: &Value| frame["response"]["metadata"]["purpose"].clone();
        let takes_metadata = dialect != Dialect::Xai;
        assert_eq!(purpose(&filler), if takes_metadata { json!("filler") } else { Value::Null });
        let check = read().await;
        assert_eq!(check["response"]["tool_choice"], none, "{dialect:?}");
        assert_eq!(purpose(&check), if takes_metadata { json!("check_caller") } else { Value::Null });
        let next = read().await;
        assert_eq!(next["response"]["tool_choice"], Value::Null, "an ordinary response may call tools");
        let news = read().await;
        let text = "The call was passed on to reception, but the line was busy. The caller is back with you.";
        assert_eq!(news["item"]["content"][0]["text"], text);
    }
}

#[test]
fn a_greeting_goes_into_the_metadata_unless_it_is_too_long() {
    for (length, fits) in [(512, true), (513, false)] {
        let line = "ä".repeat(length);
        let metadata = metadata(&Request::Greeting(line.clone()));
        assert_eq!(metadata["purpose"], "greeting");
        assert_eq!(metadata.get("line"), fits.then_some(&json!(line)));
    }
}

#[tokio::test]
async fn transcripts_grow() {
    let (mut link, mut socket) = linked(plan(Dialect::Ga)).await;
    for (frame, who) in [
        (r#"{"type":"response.output_audio_transcript.delta","item_id":"a","delta":"He"}"#, Who::Assistant),
        (r#"{"type":"response.audio_transcript.delta","item_id":"a","delta":"He"}"#, Who::Assistant),
        (
            r#"{"type":"conversation.item.input_audio_transcription.delta","item_id":"a","delta":"He"}"#,
            Who::Caller,
        ),
    ] {
        socket.send(Message::Text(frame.into())).await.unwrap();
        let step = timeout(Duration::from_secs(5), step(&mut link)).await.unwrap();
        let ModelStep::Event(Event::TranscriptGrew { who: found, item, text }) = step else {
            panic!("{step:?}")
        };
        assert_eq!((found, item, text.expose()), (who, "a".into(), "He"));
    }
}

#[tokio::test]
async fn only_a_session_with_hosted_tools_accepts_large_messages() {
    let item = json!({"id": "mcp_1", "type": "mcp_call", "output": "x".repeat(2 * 1024 * 1024)});
    let frame = json!({"type": "conversation.item.done", "item": item}).to_string();
    for hosted in [servers(), Vec::new()] {
        let hosts = !hosted.is_empty();
        let mut plan = plan(Dialect::Ga);
        plan.hosted = hosted;
        let (mut link, mut socket) = linked(plan).await;
        let sent = tokio::spawn({
            let frame = frame.clone();
            async move {
                let _ = socket.send(Message::Text(frame.into())).await; // the link may have closed by then
                socket
            }
        });
        let step = timeout(Duration::from_secs(5), step(&mut link)).await.unwrap();
        let whole = matches!(&step, ModelStep::Event(Event::HostedEnded { .. }));
        let lost = matches!(&step, ModelStep::Event(Event::ModelLost(Lost { loss: Loss::Closed, .. })));
        assert_eq!((whole, lost), (hosts, !hosts), "{step:?}");
        drop(link);
        sent.await.unwrap();
    }
}
