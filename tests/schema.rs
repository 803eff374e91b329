//! The JSON Schema, the reference and the check agree on assistants' files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonschema::Validator;
use serde_json::{Value, json};
use switchboard::assistant::{Folder, Roster, SourceFile, schema};
use switchboard::problem::catalogue::Assistant;
use switchboard::problem::{Problem, What};
use switchboard::provider::{OPENAI_REALTIME_URL, Provider};

/// Cases of `tests/assistants/invalid` that a schema cannot judge, each with the reason.
const BEYOND_A_SCHEMA: &[(&str, &str)] = &[
    ("Front_Desk", "the name of the file"),
    ("alias-problem", "templates"),
    ("bad-fragment", "other files"),
    ("bad-substitution", "`${…}` within a free text"),
    ("blank-instructions", "visible characters"),
    ("both-stars", "other files"),
    ("comments", "comments"),
    ("containers", "templates"),
    ("deep", "the depth of a value"),
    ("double-name", "other files"),
    ("fallback", "the providers and their abilities"),
    ("fallback-voice", "the providers and their abilities"),
    ("formats", "templates"),
    ("fragment-path", "other files"),
    ("functions-http", "templates"),
    ("greeting-absolute", "other files"),
    ("greeting-caller", "other files"),
    ("greeting-path", "other files"),
    ("language-codes", "the world's languages"),
    ("language-croatian", "warnings"),
    ("language-czech", "warnings"),
    ("language-swiss", "warnings"),
    ("mcp-no-effect", "only warnings"),
    ("messages-to-itself", "other files"),
    ("loops", "other files"),
    ("mcp-provider", "the rules of `via: provider`"),
    ("mcp-provider-ability", "the providers and their abilities"),
    ("mcp-provider-other", "the providers and their abilities"),
    ("missing-variable", "the environment"),
    ("near-voice", "other providers have other voices"),
    ("no-effect", "only warnings"),
    ("old-mac", "line endings"),
    ("provider-abilities", "the providers and their abilities"),
    ("prepared-without-effect", "only warnings"),
    ("provider-ranges", "the providers and their abilities"),
    ("provider-threshold", "the providers and their abilities"),
    ("record-keep", "the range of a duration"),
    ("record-notice", "only warnings"),
    ("record-said", "templates"),
    ("record-silent", "only warnings"),
    ("quotes-within", "the shape of a token"),
    ("said", "templates"),
    ("said-nothing", "templates"),
    ("same-number", "other files"),
    ("same-number-by-variables", "other files"),
    ("schemas", "a JSON Schema within the file"),
    ("secrets-block", "only warnings"),
    ("secrets-within", "only warnings"),
    ("tag", "tags, which a reader drops"),
    ("take-message", "addresses and signatures"),
    ("take-message-secret", "addresses and signatures"),
    ("take-message-secrets", "addresses and signatures"),
    ("template-braces", "templates"),
    ("template-branches", "templates"),
    ("template-dashes", "templates"),
    ("template-endless", "templates"),
    ("template-filter", "templates"),
    ("template-folded", "templates"),
    ("template-from-environment", "the environment"),
    ("template-hidden-branches", "templates"),
    ("template-huge", "templates"),
    ("template-misuse", "templates"),
    ("template-names", "templates"),
    ("template-python", "templates"),
    ("template-shell", "`${…}` within a free text"),
    ("template-syntax", "templates"),
    ("template-tags", "templates"),
    ("template-unclosed", "templates"),
    ("timezone-city", "the names of time zones"),
    ("timezone-offset", "the names of time zones"),
    ("timezones", "the names of time zones"),
    ("transcription-shutdown", "only warnings"),
    ("transcription-unknown", "only warnings"),
    ("tokens", "the shape of a token"),
    ("types", "a JSON Schema within the file"),
    ("unknown-model", "the providers and their models"),
    ("unknown-voice", "other providers have other voices"),
    ("unused-fragment", "other files"),
    ("variables-parts", "templates"),
    ("voice-from-environment", "the environment"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn validator() -> Validator {
    jsonschema::draft202012::new(&schema::schema()).unwrap()
}

/// A file as a YAML reader gives it to a validator; `None` if it is not YAML.
fn json(text: &str) -> Option<Value> {
    // In YAML 1.2 `no` is a word.
    let options = serde_yaml::options! { strict_booleans: true };
    serde_yaml::from_str_with_options(text.strip_prefix('\u{feff}').unwrap_or(text), options).ok()
}

fn file(name: &str, made: &str) {
    let path = root().join("docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, made).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == made,
        "docs/{name} is not up to date: run `UPDATE_DOCS=1 cargo nextest run --test schema`"
    );
}

#[test]
fn the_committed_schema_and_reference_are_up_to_date() {
    file("assistant.schema.json", &format!("{:#}\n", schema::schema()));
    file("assistants.md", &schema::reference());
    file("metrics.md", &switchboard::observe::metrics::page());
}

#[test]
fn the_schema_is_a_schema() {
    jsonschema::meta::validate(&schema::schema()).unwrap();
    assert!(!schema::schema().to_string().contains("\"x-"));
}

/// Every case of a folder with the YAML files in it.
fn cases(folder: &str) -> Vec<(String, Vec<PathBuf>)> {
    let list = |dir: &Path| {
        let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let yaml = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    let mut cases = Vec::new();
    for path in list(&root().join(folder)) {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && !["fragments", "greetings", "sounds"].contains(&name.as_str()) {
            cases.push((name, list(&path).into_iter().filter(yaml).collect()));
        } else if yaml(&path) {
            cases.push((name, vec![path]));
        }
    }
    assert!(cases.len() >= 3, "{folder} holds {} cases", cases.len());
    cases
}

/// Why a validator rejects a file; `None` if it accepts it.
fn rejection(validator: &Validator, path: &Path) -> Option<String> {
    let Ok(text) = fs::read_to_string(path) else { return Some("is not UTF-8".to_owned()) };
    let Some(value) = json(&text) else { return Some("is not YAML".to_owned()) };
    validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).next()
}

#[test]
fn the_schema_accepts_every_valid_file() {
    let validator = validator();
    let example = ("example".to_owned(), vec![root().join("docs/examples/todoist-functions.yaml")]);
    for (name, files) in
        cases("tests/assistants/valid").into_iter().chain(cases("assistants")).chain([example])
    {
        for file in files {
            assert_eq!(rejection(&validator, &file), None, "{name}");
        }
    }
}

#[test]
fn the_example_to_copy_names_the_schema_from_where_it_is_used() {
    let text = fs::read_to_string(root().join("docs/examples/todoist-functions.yaml")).unwrap();
    let schema = text.lines().find_map(|line| line.strip_prefix("# yaml-language-server: $schema=")).unwrap();
    let named = root().join("assistants").join(schema).canonicalize().unwrap();
    assert_eq!(named, root().join("docs/assistant.schema.json").canonicalize().unwrap());
}

#[test]
fn the_schema_rejects_every_invalid_file_that_it_can_judge() {
    let validator = validator();
    let mut beyond: BTreeMap<&str, &str> = BEYOND_A_SCHEMA.iter().copied().collect();
    let mut wrong = Vec::new();
    for (name, files) in cases("tests/assistants/invalid") {
        let rejected = files.iter().find_map(|file| rejection(&validator, file));
        match (rejected, beyond.remove(name.as_str())) {
            (None, None) => wrong.push(format!("{name} is accepted; is it beyond a schema?")),
            (Some(why), Some(_)) => {
                wrong.push(format!("{name} is rejected, but listed as beyond a schema: {why}"))
            }
            (Some(_), None) | (None, Some(_)) => {}
        }
    }
    wrong.extend(beyond.keys().map(|name| format!("{name} is not a case")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_example_of_the_reference_is_valid() {
    let (validator, reference) = (validator(), schema::reference());
    let blocks: Vec<&str> =
        reference.split("```yaml\n").skip(1).map(|b| b.split("```").next().unwrap()).collect();
    assert!(blocks.len() > 50, "only {} examples", blocks.len());
    for block in blocks {
        let mut value = json(block).unwrap_or_else(|| panic!("this is not YAML:\n{block}"));
        if value.get("instructions").is_none() {
            merge(&mut value, json!({ "instructions": "Be kind." }));
        }
        let rejected = validator.iter_errors(&value).next();
        assert!(rejected.is_none(), "{rejected:?} in\n{block}");
    }
}

/// A map of the schema whose keys are fixed: its place, and the schema of each key.
type ClosedMap = (Vec<String>, serde_json::Map<String, Value>);

/// Every closed map. An example stands for a name that the owner chooses.
fn maps() -> Vec<ClosedMap> {
    fn walk(schema: &Value, path: &[String], found: &mut Vec<ClosedMap>) {
        let choices = schema["anyOf"].as_array().into_iter().flatten();
        for map in std::iter::once(schema).chain(choices) {
            let below = |name: &str| [path, &[name.to_owned()]].concat();
            match (&map["additionalProperties"], map["properties"].as_object()) {
                (Value::Bool(false), Some(properties)) => {
                    found.push((path.to_vec(), properties.clone()));
                    properties.iter().for_each(|(name, schema)| walk(schema, &below(name), found));
                }
                (Value::Object(_), _) => {
                    let name = match path.last().map(String::as_str) {
                        Some("mcp") => "todoist",
                        Some("tools") => "add-tasks",
                        Some("transfer_to") => "reception",
                        _ => "book-table",
                    };
                    walk(&map["additionalProperties"], &below(name), found);
                }
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(&schema::schema(), &[], &mut found);
    assert!(found.len() > 10, "only {} maps", found.len());
    found
}

/// Every key of every closed map, with its schema.
fn keys() -> Vec<(Vec<String>, Value)> {
    let keys = |(path, properties): ClosedMap| {
        properties.into_iter().map(move |(name, schema)| ([path.clone(), vec![name]].concat(), schema))
    };
    maps().into_iter().flat_map(keys).collect()
}

fn nest(path: &[String], value: Value) -> Value {
    path.iter().rev().fold(value, |value, name| json!({ name: value }))
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// A file in which the key of this path makes sense, without that key.
fn around(path: &[String]) -> Value {
    let mut file = json!({
        "instructions": "Be kind.",
        "variables": { "clinic": { "name": "Example Dental" } },
    });
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let webhook = json!({ "url": "https://example.com/", "secret": "${TODOIST_MCP_PASSWORD}" });
    let server = json!({ "mcp": { "todoist": { "url": "https://mcp.example.com/" } } });
    merge(
        &mut file,
        match path.as_slice() {
            ["fallback"] | ["fallback", "model" | "voice"] => json!({ "fallback": {
                "provider": "openai", "model": "gpt-realtime-2.1-mini",
            } }),
            ["fallback", "provider"] => json!({ "fallback": { "model": "gpt-realtime-2.1-mini" } }),
            ["turn_taking", "eagerness"] => json!({ "turn_taking": { "detection": "semantic" } }),
            ["mcp", _, "url" | "command"] | ["mcp"] | ["functions"] => json!({}),
            ["mcp", _, "env"] => json!({ "mcp": { "todoist": { "command": ["npx"] } } }),
            ["mcp", _, "user" | "password"] => {
                let login = json!({ "user": "anna", "password": "${TODOIST_MCP_PASSWORD}" });
                json!({ "mcp": { "todoist": { "url": "https://mcp.example.com/", "user": login["user"], "password": login["password"] } } })
            }
            ["mcp", ..] => server.clone(),
            ["functions", _, "http"] => json!({ "functions": { "book-table": { "description": "Books." } } }),
            ["functions", _, "http", ..] => json!({
                "functions": { "book-table": { "description": "Books.", "http": { "url": "https://example.com/" } } }
            }),
            ["call_control", "transfer_to", _, name] if *name != "number" => {
                json!({ "call_control": { "transfer_to": { "reception": { "number": "+15550100011" } } } })
            }
            ["call_control", "transfer_to", _] => {
                json!({ "call_control": { "transfer_to": { "reception": { "number": "+15550100011" } } } })
            }
            ["call_control", "take_message", "to", "webhook", ..] if path.len() > 3 => json!({
                "call_control": { "take_message": { "to": { "webhook": webhook } } }
            }),
            ["call_control", "take_message", ..] if path.len() > 2 => json!({
                "call_control": { "take_message": { "to": { "email": "owner@example.com" } } }
            }),
            ["notify", "to", "webhook", ..] if path.len() > 2 => {
                json!({ "notify": { "to": { "webhook": webhook } } })
            }
            ["notify", name, ..] if *name != "to" => {
                json!({ "notify": { "to": { "email": "owner@example.com" } } })
            }
            ["after_call", "webhook", ..] => json!({ "after_call": { "summary": true, "webhook": webhook } }),
            ["functions", ..] => json!({
                "functions": { "book-table": { "description": "Books.", "mcp": { "server": "todoist", "tool": "add" } } }
            }),
            _ => json!({}),
        },
    );
    if path.first() == Some(&"functions") {
        merge(&mut file, server);
    }
    file
}

fn check(file: &Value) -> (Option<Roster>, Vec<Problem>) {
    let wav = fs::read(root().join("tests/assistants/valid/folder/greetings/hello.wav")).unwrap();
    let folder = Folder {
        assistants: vec![SourceFile::new("a.yaml", file.to_string())],
        fragments: vec![SourceFile::new("fragments/house-rules.md", "Be brief.")],
        greetings: vec![SourceFile::new("greetings/clinic.wav", wav.clone())],
        sounds: vec![SourceFile::new("sounds/waiting.wav", wav)],
        ..Folder::default()
    };
    let environment = ["CLINIC_NUMBER", "TODOIST_MCP_USER", "TODOIST_MCP_PASSWORD", "MESSAGES_SECRET"]
        .map(|name| (name.to_owned(), "+15550100001".to_owned()));
    let mut provider = Provider::openai(OPENAI_REALTIME_URL, None);
    // The schema contains those of every dialect.
    provider.abilities.efforts.insert(0, "none".into());
    let checked = Roster::check(&folder, &environment.into(), &[Arc::new(provider)]);
    let problems = checked.problems();
    (checked.roster.ok(), problems)
}

#[test]
fn the_schema_and_the_check_know_the_same_keys() {
    for (path, properties) in maps() {
        let mut file = around(&path);
        merge(&mut file, nest(&path, json!({ "qqqqqqqq": 1 })));
        let problems = check(&file).1;
        let known = problems.iter().find_map(|problem| match problem.what() {
            What::Assistant(Assistant::KeyUnknown { key, suggestion }) if key.ends_with("qqqqqqqq") => {
                Some(suggestion.known())
            }
            _ => None,
        });
        let known = known.unwrap_or_else(|| panic!("{path:?} takes any key: {problems:?}"));
        let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
        let described: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(known, described, "left: the check, right: the schema, in {path:?}");
    }
}

#[test]
fn every_example_and_default_passes_the_check() {
    let (mut examples, mut defaults) = (0, 0);
    for (path, schema) in keys() {
        let with = |value: &Value| {
            let mut file = around(&path);
            merge(&mut file, nest(&path, value.clone()));
            let (roster, problems) = check(&file);
            let errors: Vec<_> = problems.iter().filter(|problem| problem.is_error()).collect();
            assert!(errors.is_empty(), "{path:?}: {value}: {errors:?}");
            roster
        };
        for example in schema["examples"].as_array().into_iter().flatten() {
            with(example);
            examples += 1;
        }
        // Writing the default means the same as leaving the key out.
        if let Some(default) = schema.get("default") {
            let without = check(&around(&path)).0;
            assert!(with(default) == without, "the default of {path:?} is not {default}");
            defaults += 1;
        }
    }
    assert!(examples > 50 && defaults > 15, "only {examples} examples and {defaults} defaults");
}

#[test]
fn the_pages_have_the_tables_of_the_code() {
    for (page, name, table) in [
        ("settings.md", "settings", switchboard::settings::table::markdown()),
        ("settings.md", "prices", switchboard::provider::prices::markdown()),
        ("reliability.md", "failures", switchboard::provider::failures()),
        ("troubleshooting.md", "reasons", switchboard::record::reasons_markdown()),
    ] {
        let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
        let text = fs::read_to_string(root().join("docs").join(page)).unwrap();
        let (before, rest) = text.split_once(&begin).unwrap();
        let (_, after) = rest.split_once(&end).unwrap();
        file(page, &format!("{before}{begin}{table}{end}{after}"));
    }
}
