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
use crate::call::TurnControl;
use crate::link::network;
use crate::link::outbox::tests::a_peer_that_pings_and_never_reads;
use crate::phone::Party;
use crate::provider::{Dialect, Provider};
use crate::secret::Secret;
use crate::yaml::SourceFile;

mod limits;
mod openai;

const WHOLE: LeftOut = LeftOut { options: false, servers: false };
const PLAIN: LeftOut = LeftOut { options: true, servers: false };

/// A plan with all options, for a provider of this dialect that accepts them all.
fn plan(dialect: Dialect) -> Plan {
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
        Request::CheckCaller,
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

#[test]
fn the_end_of_the_call_follows_from_the_class_of_the_error() {
    use EndReason::{
        ModelMisconfigured as Misconfigured, ModelRefused as Refused, ModelUnreachable as Unreachable,
    };
    let closed = |code, reason: &str| NotConnected::Closed { code, reason: reason.to_owned() };
    let answered = |status, body: &str, headers: &[(&'static str, &'static str)]| {
        let header = |(name, value): &(&'static str, &'static str)| {
            (reqwest::header::HeaderName::from_static(name), reqwest::header::HeaderValue::from_static(value))
        };
        let headers = headers.iter().map(header).collect();
        NotConnected::Refused(Box::new(network::Answer {
            status,
            headers,
            body: body.into(),
            took: Duration::ZERO,
        }))
    };
    let refused = |status, body: &str| answered(status, body, &[]);
    for (error, reason, is_temporary) in [
        (closed(Some(3000), "invalid_request_error.invalid_api_key"), Refused, false),
        (closed(Some(4000), "server_error.internal_error"), Unreachable, true),
        (closed(Some(1008), ""), Refused, false),
        (closed(Some(4321), "who_knows"), Unreachable, true),
        (closed(Some(1011), ""), Unreachable, true),
        (closed(None, ""), Unreachable, true),
        (refused(401, ""), Refused, false),
        (refused(403, ""), Refused, false),
        (refused(429, ""), Unreachable, true),
        (refused(429, r#"{"error": {"code": "insufficient_quota"}}"#), Refused, false),
        (refused(400, r#"{"error": {"code": "OpperationNotSupported"}}"#), Refused, false),
        (refused(503, "<html>"), Unreachable, true),
        (NotConnected::BadKey, Refused, false),
        (NotConnected::Error(Failure::default()), Unreachable, true),
        (NotConnected::Network(network::Fault::BadUrl), Misconfigured, false),
        (NotConnected::Misconfigured("invalid_value".to_owned()), Misconfigured, false),
        (NotConnected::Late { garbage: 1 }, Unreachable, true),
    ] {
        let found = (EndReason::from(&error.lost()), error.is_temporary());
        assert_eq!(found, (reason, is_temporary), "{error:?}");
    }
    let busy = answered(429, "", &[("retry-after", "2")]).failure();
    assert_eq!((busy.status, busy.retry_after), (Some(429), Some(Duration::from_secs(2))));
}

#[tokio::test]
async fn an_error_before_the_session_has_a_class() {
    for (error, cause) in [
        (r#"{"type":"invalid_request_error","code":"invalid_api_key"}"#, Some(Cause::Key)),
        // No key reached the provider.
        (r#"{"type":"invalid_request_error","code":null}"#, Some(Cause::Key)),
        (r#"{"type":"server_error","code":null}"#, Some(Cause::ServerError)),
        (r#"{"type":"invalid_request_error","code":"brand_new"}"#, None),
    ] {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let plan = placed(plan(Dialect::Ga), &listener);
        let server = async {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
            let frame = format!(r#"{{"type":"error","error":{error}}}"#);
            socket.send(Message::Text(frame.into())).await.unwrap();
        };
        let (link, ()) = tokio::join!(ModelLink::connect(Arc::new(plan), tls()), server);
        assert_eq!(link.err().map(|error| error.failure().cause), Some(cause), "{error}");
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
async fn linked(plan: Plan) -> (ModelLink, tokio_tungstenite::WebSocketStream<TcpStream>) {
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
        link.say(&Request::CheckCaller);
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
async fn errors_are_matched_to_our_requests() {
    let (mut link, mut socket) = linked(plan(Dialect::Ga)).await;
    link.ask();
    link.ask();
    link.say_out_of_band(&Request::Filler);
    let mut fault = async |code: &str, of: &str, message: &str| {
        let error = json!({"type": "error", "error": {"code": code, "event_id": of, "message": message}});
        socket.send(Message::Text(error.to_string().into())).await.unwrap();
        match timeout(Duration::from_secs(5), step(&mut link)).await.unwrap() {
            ModelStep::Event(Event::ModelFault(fault)) => fault,
            step => panic!("{step:?}"),
        }
    };
    let busy = "conversation_already_has_active_response";
    for (code, of, about, class) in [
        ("rate_limit_exceeded", "ask2", About::Request, Some(Class::Transient)),
        ("rate_limit_exceeded", "ask1", About::Other, Some(Class::Transient)),
        ("response_cancel_not_active", "e7", About::Other, None),
        (busy, "ask2", About::Request, Some(Class::Conflict)),
        (busy, "ask1", About::Other, Some(Class::Conflict)),
        ("server_error", "out_of_band_1", About::OutOfBand, Some(Class::Transient)),
        // The call decides what follows.
        ("insufficient_quota", "e7", About::Other, Some(Class::Failover)),
        ("brand_new", "ask2", About::Request, None),
    ] {
        let fault = fault(code, of, "").await;
        assert_eq!((fault.about, fault.failure.class()), (about, class), "{code} of {of}");
        assert_eq!((fault.failure.code.as_deref(), fault.active), (Some(code), None), "{code} of {of}");
    }
    let words = "Conversation already has an active response in progress: resp_X. Wait until it is finished.";
    assert_eq!(fault(busy, "ask2", words).await.active, Some("resp_X".into()));
    let limited = fault("rate_limit_exceeded", "ask2", "Please try again in 1.5s.").await;
    assert_eq!(limited.failure.retry_after, Some(Duration::from_millis(1_500)));
}

#[tokio::test]
async fn the_status_of_a_response_becomes_its_outcome() {
    let (mut link, mut socket) = linked(plan(Dialect::Ga)).await;
    let failed = |code: &str| {
        let message = "Please try again in 20ms.";
        let error = json!({"type": "tokens", "code": code, "message": message});
        json!({"type": "failed", "error": error})
    };
    let failure = |code: &str, cause| {
        let retry_after = Some(Duration::from_millis(20));
        Outcome::Failed(Failure { cause, code: Some(code.into()), retry_after, ..Failure::default() })
    };
    for (status, details, expected) in [
        ("completed", Value::Null, Outcome::Completed),
        ("incomplete", Value::Null, Outcome::Incomplete(Why::Unknown)),
        ("incomplete", json!({"reason": "max_output_tokens"}), Outcome::Incomplete(Why::TooLong)),
        ("incomplete", json!({"reason": "content_filter"}), Outcome::Incomplete(Why::Filtered)),
        ("cancelled", Value::Null, Outcome::Cancelled(By::Unknown)),
        ("cancelled", json!({"reason": "turn_detected"}), Outcome::Cancelled(By::Caller)),
        ("cancelled", json!({"reason": "client_cancelled"}), Outcome::Cancelled(By::Us)),
        ("failed", Value::Null, Outcome::Failed(Failure::default())),
        ("failed", failed("rate_limit_exceeded"), failure("rate_limit_exceeded", Some(Cause::RateLimit))),
        ("failed", failed("insufficient_quota"), failure("insufficient_quota", Some(Cause::Credit))),
        ("failed", failed("brand_new"), failure("brand_new", None)),
        ("failed", failed("content_filter"), Outcome::Incomplete(Why::Filtered)),
    ] {
        let response = json!({"id": "r1", "status": status, "status_details": details, "output": []});
        let done = json!({"type": "response.done", "response": response});
        socket.send(Message::Text(done.to_string().into())).await.unwrap();
        let outcome = loop {
            let step = timeout(Duration::from_secs(5), step(&mut link)).await.unwrap();
            if let ModelStep::Event(Event::ResponseEnded { outcome, .. }) = step {
                break outcome;
            }
        };
        assert_eq!(outcome, expected, "{status} {details}");
    }
}

#[tokio::test]
async fn a_closed_session_says_how_it_was_closed() {
    for (close, class, reason) in [
        (
            Some((3000, "invalid_request_error.invalid_api_key")),
            Some(Class::Failover),
            EndReason::ModelRefused,
        ),
        (
            Some((1001, "Your session hit the maximum duration.")),
            Some(Class::Transient),
            EndReason::ModelLost,
        ),
        (Some((1011, "")), Some(Class::Transient), EndReason::ModelLost),
        (Some((4321, "who_knows")), None, EndReason::ModelLost),
        (None, Some(Class::Transient), EndReason::ModelLost),
    ] {
        let (mut link, mut socket) = linked(plan(Dialect::Ga)).await;
        match close {
            Some((code, reason)) => {
                let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
                socket.close(Some(frame)).await.unwrap();
            }
            None => drop(socket),
        }
        let step = timeout(Duration::from_secs(5), step(&mut link)).await.unwrap();
        let ModelStep::Event(Event::ModelLost(lost)) = step else { panic!("{step:?}") };
        assert_eq!(lost.failure.class(), class, "{close:?}");
        assert_eq!(lost.failure.close, close.map(|(code, _)| code));
        let said = close.map(|(_, reason)| reason).filter(|said| !said.is_empty() && !said.contains(' '));
        assert_eq!(lost.failure.reason.as_deref(), said, "only code words");
        assert_eq!(EndReason::from(&lost), reason, "{close:?}");
    }
}

#[tokio::test]
async fn limits_that_are_almost_used_up_are_reported() {
    let (mut link, mut socket) = linked(plan(Dialect::Ga)).await;
    let limit = |name: &str, remaining: u64, reset: f64| json!({"name": name, "limit": 1000, "remaining": remaining, "reset_seconds": reset});
    for limits in [
        json!([limit("tokens", 500, 9.0)]),
        json!("none"),
        json!([{"name": "tokens", "remaining": 0}]),
        json!([limit("requests", 999, 900.0), limit("tokens", 3, 2.5)]),
    ] {
        let frame = json!({"type": "rate_limits.updated", "rate_limits": limits});
        socket.send(Message::Text(frame.to_string().into())).await.unwrap();
    }
    let before = now();
    let step = timeout(Duration::from_secs(5), step(&mut link)).await.unwrap();
    let ModelStep::Event(Event::RateLimited { until }) = step else { panic!("{step:?}") };
    let reset = Duration::from_millis(2_500);
    assert!(until <= now() + reset && until >= before + reset);
}

#[tokio::test]
async fn the_end_of_the_session_is_known() {
    let now_secs = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let hour = Duration::from_secs(60 * 60);
    let most = |expires_at| connect::left(expires_at, hour);
    let soon = most(Some(now_secs() + 600));
    assert!(soon > Duration::from_secs(590) && soon <= Duration::from_secs(600), "{soon:?}");
    for (what, expires_at) in [("none", None), ("the past", Some(now_secs() - 5)), ("0", Some(0))] {
        assert_eq!(most(expires_at), hour, "{what}");
    }
    assert!(most(Some(u64::MAX)) <= Duration::from_secs(24 * 60 * 60));
    let (mut link, _socket) = linked(plan(Dialect::Ga)).await;
    let expires = link.take_expiry().unwrap();
    assert!(expires > now() + hour - Duration::from_secs(60) && expires <= now() + hour);
    assert_eq!(link.take_expiry(), None, "it is reported once");
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

#[test]
fn an_error_is_logged_by_its_code_and_never_quotes() {
    for (frame, described) in [
        (
            r#"{"type":"error","error":{"code":"invalid_value","param":"session.tools[12].name"}}"#,
            "invalid_value at session.tools[12].name",
        ),
        (
            r#"{"type":"error","error":{"type":"server_error","message":"call +1 555 010 9999"}}"#,
            "server_error",
        ),
        (r#"{"type":"error","error":{"code":"no_15550109999"}}"#, "unknown code"),
        (
            r#"{"type":"error","error":{"code":"555-010-9999","param":"482913"}}"#,
            "unknown code at unknown code",
        ),
        (r#"{"type":"error","error":{"code":"my name is Ann"}}"#, "unknown code"),
        (r#"{"type":"error","error":{}}"#, "no code"),
    ] {
        let frame = bytes::Bytes::from(frame);
        let Ok(realtime::Incoming::Error(error)) = realtime::parse(&frame) else { panic!("{frame:?}") };
        assert_eq!(super::described(&error), described, "{frame:?}");
    }
}
