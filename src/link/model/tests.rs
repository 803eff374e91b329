//! What the model is told, by dialect.

use serde_json::{Value, json};

use super::*;
use crate::assistant::plan::{Effort, Nothing, Transcription};
use crate::assistant::{Facts, Folder, Roster};
use crate::call::TurnsBy;
use crate::phone::Party;
use crate::provider::Provider;
use crate::yaml::SourceFile;

/// A plan with everything in it, for a provider of this dialect that takes it all.
fn plan(dialect: Dialect) -> Plan {
    let text = "instructions: Be kind.\ncall_control: { end_call: true }\nspeed: 1.2\nreasoning: high\n";
    let assistants = vec![SourceFile::new("clinic.yaml", text)];
    let folder = Folder { assistants, ..Folder::default() };
    let mut provider = Provider::openai("ws://127.0.0.1:1", None);
    let roster = Roster::check(&folder, &Default::default(), &[Arc::new(provider.clone())]).roster.unwrap();
    let facts = Facts {
        caller: Party::Withheld,
        called: Party::Withheld,
        call: "CA1".to_owned(),
        now: "2026-03-03T14:05:00Z".parse().unwrap(),
    };
    let mut plan = roster.by_name("clinic").unwrap().plan(&facts, &Nothing).unwrap();
    provider.dialect = dialect;
    provider.abilities.temperature = Some(0.0..=2.0);
    plan.provider = Arc::new(provider);
    plan.temperature = Some(0.7);
    plan.reasoning = Some(Effort::High);
    plan.transcription = Some(Transcription { model: "ears".to_owned(), language: Some("en".to_owned()) });
    plan
}

#[test]
fn a_session_is_configured_in_every_dialect() {
    let told: Vec<String> = Dialect::ALL
        .into_iter()
        .flat_map(|dialect| [(dialect, false), (dialect, true)])
        .map(|(dialect, plainer)| {
            let session = session(&plan(dialect), TurnsBy::Model, plainer);
            let name = if plainer { "plainer " } else { "" };
            format!("{name}{}: {}", dialect.name(), serde_json::to_string_pretty(&session).unwrap())
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_temperature_is_sent_only_where_the_provider_takes_one() {
    for dialect in Dialect::ALL {
        let mut plan = plan(dialect);
        assert_eq!(session(&plan, TurnsBy::Model, true)["temperature"], 0.7, "{dialect:?}");
        let mut provider = Provider::clone(&plan.provider);
        provider.abilities.temperature = None;
        plan.provider = Arc::new(provider);
        assert_eq!(session(&plan, TurnsBy::Model, false).get("temperature"), None, "{dialect:?}");
    }
}

#[test]
fn turns_are_changed_at_the_dialects_own_place() {
    for (dialect, at) in [
        (Dialect::Ga, "/audio/input/turn_detection"),
        (Dialect::Beta, "/turn_detection"),
        (Dialect::Xai, "/turn_detection"),
    ] {
        let update = configure::turns_alone(&plan(dialect), TurnsBy::Us);
        let detection = update.pointer(at).unwrap_or(&Value::Null);
        assert_eq!(detection["create_response"], json!(false), "{dialect:?}");
        assert_eq!(update.get("type").is_some(), dialect == Dialect::Ga);
    }
}

#[test]
fn a_line_of_the_assistants_has_the_dialects_own_type() {
    for (dialect, kind) in
        [(Dialect::Ga, "output_text"), (Dialect::Beta, "text"), (Dialect::Xai, "output_text")]
    {
        let line: Value = serde_json::from_str(&configure::assistant_text(&plan(dialect), "Hello.")).unwrap();
        assert_eq!(line["item"]["content"][0], json!({"type": kind, "text": "Hello."}), "{dialect:?}");
    }
}
