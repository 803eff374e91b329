//! Every provider in `docs/providers.md`, configured as shown there: a whole call with the simulated model in its dialect,
//! and the tables of that page compared with the code.

use std::time::Duration;

use switchboard::call::EndReason;
use switchboard::provider::{Abilities, Dialect, OPENAI_REALTIME_URL, Provider, Transcribing};
use switchboard_simulator::caller::CallEnd;
use switchboard_simulator::model::{
    ModelOptions, ModelServer, Reply, Script, SessionLog, Speech, Truncating,
};

use crate::harness::{CLINIC, Harness, finished, speech};

const DOC: &str = include_str!("../../docs/providers.md");
const LONG: &str = "This is a long answer that goes on and on about the opening hours of the clinic, about the \
                    way to it, about where to park, and about what to bring along when you come to see us.";
const KEY: &str = "sk-simulated";

/// A model that gives a long answer, then says goodbye and ends the call.
fn talkative() -> ModelOptions {
    let goodbye = Reply::say("You are welcome. Goodbye.").to("Thank you.").and_call("end_call", "{}");
    ModelOptions {
        think: Duration::from_millis(100),
        speech: Speech::Tagged,
        script: Script { replies: vec![Reply::say(LONG).to("When?"), goodbye], ..Script::default() },
        own_names: true,
        ..ModelOptions::default()
    }
}

/// The block of the page with this name.
fn block(name: &str) -> &'static str {
    let marker = format!("<!-- tested: {name} -->\n```yaml\n");
    let (_, rest) = DOC.split_once(&marker).unwrap_or_else(|| panic!("{name} is not in the docs"));
    rest.split_once("```").unwrap().0
}

/// The block, with the simulator as its host.
fn settings(name: &str, server: &ModelServer) -> String {
    let text = block(name);
    let (before, url) = text.split_once("url: ").unwrap();
    let host = url.split_once("://").unwrap().1.split('/').next().unwrap();
    let (scheme, rest) = url.split_once("://").unwrap();
    assert!(matches!(scheme, "ws" | "wss"));
    format!("{before}url: ws://{}{}", server.addr(), rest.strip_prefix(host).unwrap())
}

/// A call with a greeting, a turn, an interruption and a goodbye. Returns the model's session and the caller's first
/// words.
async fn call(name: &str, variable: &str, more: &str, options: ModelOptions) -> (SessionLog, Option<String>) {
    let key = options.key.clone();
    let server = ModelServer::start(options).await.unwrap();
    let file = settings(name, &server);
    let assistant = format!("{CLINIC}\nprovider: {name}\n{more}");
    // OpenAI is not used here, so its key is empty.
    let environment = [("OPENAI_API_KEY", ""), (variable, key.as_str())];
    let mut harness =
        Harness::with_file(&assistant, &[], ModelOptions::default(), &environment, Some(&file)).await;
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_until_quiet(Duration::from_millis(300)).await, "{name} greets");
    phone.say(speech(700));
    assert!(phone.wait_until_playing_for(Duration::from_millis(1_000)).await, "{name} answers");
    phone.say(speech(700));
    let record = finished(phone).await;
    record.assert_clean();
    assert_eq!(record.end, CallEnd::HungUp, "{name}");
    assert_eq!(record.streams[0].clears.len(), 1, "{name} was interrupted once");
    let ended = harness.ended().await;
    assert_eq!(ended.reason, EndReason::AssistantEnded, "{name}");
    assert_eq!((ended.caller_said().len(), ended.record.interruptions), (2, 1), "{name}");
    let session = server.sessions().into_iter().next().expect("the model was called");
    assert!(session.errors.is_empty(), "{name} refused something: {:?}", session.errors);
    assert!(session.audio_waited_for_update());
    assert!(harness.model.sessions().is_empty(), "OpenAI was not called");
    harness.quit().await;
    server.stop().await;
    let said: Vec<&str> = ended.caller_said().into_iter().flatten().collect();
    for text in &said {
        assert_eq!(said.iter().filter(|other| other == &text).count(), 1, "{name} reports {text} once");
    }
    (session, said.first().map(|text| (*text).to_owned()))
}

/// The first configuration.
fn configured(session: &SessionLog) -> &serde_json::Value {
    &session.of_kind("session.update").next().expect("it was configured")["session"]
}

fn truncations(session: &SessionLog) -> usize {
    session.of_kind("conversation.item.truncate").count()
}

#[tokio::test]
async fn azure_is_openai_with_another_header() {
    let options = ModelOptions {
        path: "/openai/v1/realtime".to_owned(),
        auth_header: Some("api-key".to_owned()),
        denies_at_upgrade: true,
        models: vec!["gpt-realtime-2.1".to_owned()],
        ..talkative()
    };
    let more = "temperature: 0.9\nreasoning: low\nvoice: cedar\n";
    let (session, said) = call("azure", "AZURE_OPENAI_API_KEY", more, options).await;
    assert_eq!(said.as_deref(), Some("When?"));
    assert!(session.authorization_good && !session.headers.iter().any(|name| name == "authorization"));
    let configured = configured(&session);
    assert_eq!(configured.get("temperature"), None, "it would lose the whole configuration");
    assert_eq!(configured["reasoning"]["effort"], "low");
    assert_eq!(configured["audio"]["output"]["voice"], "cedar");
    assert_eq!(configured["audio"]["input"]["transcription"]["model"], "whisper-1");
    assert_eq!(truncations(&session), 1);
}

#[tokio::test]
async fn xai_is_configured_in_its_own_dialect() {
    let options = ModelOptions {
        dialect: switchboard_simulator::model::Dialect::Xai,
        models: vec!["grok-voice-latest".to_owned()],
        ..talkative()
    };
    let (session, said) =
        call("xai", "XAI_API_KEY", "reasoning: none\nspeed: 1.2\nvoice: leo\n", options).await;
    assert_eq!(said.as_deref(), Some("When?"));
    let configured = configured(&session);
    assert_eq!(configured["voice"], "leo", "there are other voices than those of the list");
    assert_eq!(configured["turn_detection"]["type"], "server_vad");
    assert_eq!(configured["audio"]["input"]["format"]["type"], "audio/pcmu");
    assert_eq!(configured["reasoning"]["effort"], "none");
    assert_eq!((configured.get("type"), configured.get("temperature")), (None, None));
    assert_eq!(truncations(&session), 1);
}

#[tokio::test]
async fn localai_needs_no_key() {
    let options = ModelOptions { key: String::new(), models: vec!["my-pipeline".to_owned()], ..talkative() };
    let (session, said) = call("localai", "LOCALAI_API_KEY", "", options).await;
    assert_eq!(said, None, "transcription is off");
    assert!(!session.authorization_present);
    let input = &configured(&session)["audio"]["input"];
    assert_eq!((input.get("transcription"), input.get("noise_reduction")), (None, None));
}

#[tokio::test]
async fn speaches_uses_the_beta_dialect_without_truncation() {
    let options = ModelOptions {
        dialect: switchboard_simulator::model::Dialect::Beta,
        models: vec!["my-model".to_owned()],
        temperature: Some(0.6..=1.2),
        truncating: Truncating::Refused,
        ..talkative()
    };
    let (session, said) = call("speaches", "SPEACHES_API_KEY", "temperature: 0.9\n", options).await;
    assert_eq!(said.as_deref(), Some("When?"));
    let configured = configured(&session);
    assert_eq!(configured["temperature"], 0.9);
    assert_eq!(configured["input_audio_format"], "g711_ulaw");
    assert_eq!(configured["voice"], "my-voice");
    assert_eq!(configured["input_audio_transcription"]["model"], "my-whisper");
    assert_eq!((configured.get("type"), configured.get("audio")), (None, None));
    assert_eq!(truncations(&session), 0);
    let asked = session.of_kind("response.create").next().expect("the greeting was asked for");
    assert_eq!(asked["response"]["modalities"], serde_json::json!(["text", "audio"]));
}

#[tokio::test]
async fn a_plain_server_gets_only_what_it_supports() {
    let options = ModelOptions {
        models: vec!["my-voice-model".to_owned()],
        temperature: Some(0.0..=1.5),
        interrupts: false,
        ..talkative()
    };
    let (session, said) = call("gateway", "GATEWAY_KEY", "temperature: 1.3\n", options).await;
    assert_eq!(said.as_deref(), Some("When?"));
    assert_eq!(configured(&session)["temperature"], 1.3);
    assert_eq!(configured(&session)["audio"]["output"]["voice"], "anna");
    let cancelled = session.responses.iter().filter(|response| response.status == "cancelled");
    for response in cancelled {
        assert_eq!(
            response.reason.as_deref(),
            Some("client_cancelled"),
            "the server does not interrupt by itself"
        );
    }
}

#[tokio::test]
async fn openai_is_never_sent_a_temperature() {
    let goodbye = Reply::say("Goodbye.").and_call("end_call", "{}");
    let script = Script { replies: vec![goodbye], ..Script::default() };
    let options = ModelOptions { script, temperature: Some(0.0..=2.0), ..talkative() };
    let mut harness = Harness::open(&format!("{CLINIC}temperature: 0.8\n"), options).await;
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_until_quiet(Duration::from_millis(300)).await);
    phone.say(speech(600));
    finished(phone).await.assert_clean();
    assert_eq!(harness.ended().await.reason, EndReason::AssistantEnded);
    assert_eq!(configured(&harness.session()).get("temperature"), None);
    harness.quit().await;
}

#[tokio::test]
async fn a_wrong_key_is_refused_at_the_upgrade() {
    let options = ModelOptions {
        path: "/openai/v1/realtime".to_owned(),
        auth_header: Some("api-key".to_owned()),
        denies_at_upgrade: true,
        ..talkative()
    };
    let server = ModelServer::start(options).await.unwrap();
    let file = settings("azure", &server);
    let environment = [("OPENAI_API_KEY", ""), ("AZURE_OPENAI_API_KEY", "another")];
    let assistant = format!("{CLINIC}\nprovider: azure\n");
    let mut harness =
        Harness::with_file(&assistant, &[], ModelOptions::default(), &environment, Some(&file)).await;
    let record = finished(harness.dial(harness.phone())).await;
    assert_eq!(record.said[0].text, "Sorry, something broke.");
    assert_eq!(harness.ended().await.reason, EndReason::ModelRefused);
    assert!(server.sessions().iter().all(|session| !session.authorization_good), "{KEY} is another");
    harness.quit().await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_only_supports_pcm_is_not_used() {
    let options = ModelOptions { key: String::new(), models: Vec::new(), pcm_only: true, ..talkative() };
    let server = ModelServer::start(options).await.unwrap();
    let file = settings("localai", &server);
    let assistant = format!("{CLINIC}\nprovider: localai\n");
    let mut harness = Harness::with_file(&assistant, &[], ModelOptions::default(), &[], Some(&file)).await;
    let record = finished(harness.dial(harness.phone())).await;
    assert_eq!(record.said[0].text, "Sorry, something broke.");
    assert_eq!(harness.ended().await.reason, EndReason::ModelMisconfigured);
    harness.quit().await;
    server.stop().await;
}

#[test]
fn the_tables_in_the_docs_match_the_code() {
    let openai = Provider::openai(OPENAI_REALTIME_URL, None);
    let columns = [
        openai.abilities.clone(),
        Abilities::of(Dialect::Ga),
        Abilities::of(Dialect::Beta),
        Abilities::of(Dialect::Xai),
    ];
    let row = |key: &str, written: &str, tell: &dyn Fn(&Abilities) -> String| {
        let cells: Vec<String> = columns.iter().map(tell).collect();
        format!("| `{key}` | {written} | {} |\n", cells.join(" | "))
    };
    let yes = |yes: bool| if yes { "true" } else { "false" }.to_owned();
    let range = |range: &Option<std::ops::RangeInclusive<f64>>| match range {
        Some(range) => format!("{} to {}", range.start(), range.end()),
        None => "none".to_owned(),
    };
    let names = |names: Vec<&str>| if names.is_empty() { "any".to_owned() } else { names.join(", ") };
    let abilities = [
        row("voices", "`[a, b]`", &|a| names(a.voices.iter().map(AsRef::as_ref).collect())),
        row("open_voices", "`true`, `false`", &|a| yes(a.open_voices)),
        row("models", "`[a, b]`", &|a| if a.models.is_empty() { "any" } else { "below" }.to_owned()),
        row("transcription", "`[a, b]`, `itself`", &|a| match &a.transcription {
            Transcribing::Automatic => "itself".to_owned(),
            Transcribing::Named(known) if known.is_empty() => "any".to_owned(),
            Transcribing::Named(_) => "below".to_owned(),
        }),
        row("temperature", "`[0.6, 1.2]`, `none`", &|a| range(&a.temperature)),
        row("speed", "`[0.25, 1.5]`, `none`", &|a| range(&a.speed)),
        row("reasoning", "`[low, high]`, `[]`", &|a| match a.efforts.is_empty() {
            true => "none".to_owned(),
            false => names(a.efforts.iter().map(AsRef::as_ref).collect()).replace("none", "`none`"),
        }),
        row("turn_detection", "`[server, semantic]`", &|a| {
            names(a.turn_detection.iter().map(|kind| kind.name()).collect())
        }),
        row("threshold", "`[0, 1]`", &|a| range(&Some(a.threshold.clone()))),
        row("noise_reduction", "`true`, `false`", &|a| yes(a.noise_reduction)),
        row("truncates", "`true`, `false`", &|a| yes(a.truncates)),
        row("interrupts", "`true`, `false`", &|a| yes(a.interrupts_by_itself)),
        row("hosted_mcp", "`true`, `false`", &|a| yes(a.hosted_mcp)),
        row("forms", "`true`, `false`", &|a| yes(a.forms)),
        row("session", "`60m`, `2h`", &|a| format!("{}m", a.session_limit.as_secs() / 60)),
    ];
    let end = |shutdown: &Option<(std::borrow::Cow<'static, str>, std::borrow::Cow<'static, str>)>| {
        match shutdown {
            Some((day, next)) => format!("{day}; then `{next}`"),
            None => String::new(),
        }
    };
    let mark = |yes: bool| if yes { "yes" } else { "" };
    let models = openai.abilities.models.iter().map(|model| {
        let tokens = |count: Option<u32>| count.map_or(String::new(), |count| count.to_string());
        format!(
            "| `{}` | {} | {} | {} | {} | {} |\n",
            model.name,
            tokens(model.context),
            tokens(model.max_output),
            mark(model.reasoning),
            mark(model.parallel_tool_calls),
            end(&model.shutdown)
        )
    });
    let Transcribing::Named(known) = &openai.abilities.transcription else { panic!("they have names") };
    let transcription =
        known.iter().map(|known| format!("| `{}` | {} |\n", known.name, end(&known.shutdown)));
    for (name, rows) in [
        ("abilities", abilities.concat()),
        ("models", models.collect()),
        ("transcription", transcription.collect::<String>()),
    ] {
        let (_, rest) = DOC.split_once(&format!("<!-- {name} -->\n")).unwrap();
        let table = rest.split_once(&format!("<!-- /{name} -->")).unwrap().0;
        let written: String = table.lines().skip(2).map(|line| format!("{line}\n")).collect();
        assert_eq!(written, rows, "docs/providers.md must say:\n{rows}");
    }
}
