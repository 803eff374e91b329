//! Which tools a call gets from its assistant's file and the lists of its servers, and which are off.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use switchboard::assistant::plan::{
    AskFirst, Hosted, HttpCall, Job, Listed, MAX_KEYS, Nothing, Plan, Reach, Rule, Server, SoundKey, Supply,
    Tool, Work,
};
use switchboard::assistant::{Facts, Folder, Off, Roster, SourceFile};
use switchboard::phone::Party;
use switchboard::provider::{OPENAI_REALTIME_URL, Provider};
use switchboard::reload::read::read_folder;
use switchboard_audio::Clip;

const SECRET: &str = "hunter2value";

/// The tools of servers, by their names.
struct Servers {
    tools: BTreeMap<&'static str, Arc<[Listed]>>,
    texts: bool,
}

impl Supply for Servers {
    fn listed(&self, server: &Server) -> Option<Arc<[Listed]>> {
        self.tools.get(server.name.as_str()).cloned()
    }

    fn sends_texts(&self) -> bool {
        self.texts
    }

    fn captured(&self, _: &SoundKey) -> Option<Arc<Clip>> {
        None
    }
}

fn listed(name: &str) -> Listed {
    let schema = json!({"type": "object", "properties": {"title": {"type": "string"}, "project": {"type": "string"}},
        "required": ["title", "project"]});
    Listed::new(name.to_owned(), format!("Does {name}"), &object(schema))
}

fn servers(servers: &[(&'static str, &[&str])]) -> Servers {
    let tools =
        servers.iter().map(|(server, tools)| (*server, tools.iter().map(|name| listed(name)).collect()));
    Servers { tools: tools.collect(), texts: true }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn facts(caller: &str) -> Facts {
    Facts {
        caller: Party::from_twilio(caller),
        called: Party::from_twilio("+15550100001"),
        call: "CA00000000000000000000000000000001".to_owned(),
        now: "2026-03-03T14:05:00Z".parse().unwrap(),
    }
}

fn roster(text: &str) -> Roster {
    let assistants = vec![SourceFile::new("a.yaml", text)];
    let environment =
        [("SECRET_VOICE", SECRET), ("MESSAGES_SECRET", SECRET), ("GOOD_NUMBER", "+15550177777")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let provider = Arc::new(Provider::openai(OPENAI_REALTIME_URL, None));
    let checked =
        Roster::check(&Folder { assistants, ..Folder::default() }, &environment.into(), &[provider]);
    checked.roster.unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// The plan for a caller, and the tools that are off.
fn plan(text: &str, supply: &dyn Supply) -> (Plan, Vec<(String, Off)>) {
    let roster = roster(text);
    let assistant = roster.by_name("a").unwrap();
    let facts = facts("+15550109999");
    (assistant.plan(&facts, supply).unwrap(), assistant.tools_off(&facts, supply))
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.tools.iter().map(|tool| tool.name.as_str()).collect()
}

fn tool<'a>(plan: &'a Plan, name: &str) -> &'a Tool {
    plan.tools
        .iter()
        .find(|tool| tool.name == name)
        .unwrap_or_else(|| panic!("no {name} in {:?}", names(plan)))
}

fn job(tool: &Tool) -> &Job {
    match &tool.work {
        Work::Job(job) => job,
        _ => panic!("{} is no job", tool.name),
    }
}

fn off_names(off: &[(String, Off)]) -> Vec<&str> {
    off.iter().map(|(name, _)| name.as_str()).collect()
}

fn everything() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/assistants/valid/tools.yaml");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn parameters_of_a_function_replace_those_of_its_tool() {
    let text = "instructions: Hi.\nmcp: { todoist: { url: \"https://mcp.example.com/mcp\" } }\n\
                functions: { add: { description: Adds, mcp: { server: todoist, tool: add-tasks, fixed: { in: inbox } }, \
                parameters: { type: object, properties: { title: { type: string }, in: { type: string } }, \
                required: [title, in] } } }\n";
    let (plan, off) = plan(text, &servers(&[("todoist", &["add-tasks"])]));
    assert_eq!(off, []);
    let parameters = tool(&plan, "add").arguments.as_ref().unwrap().schema();
    let expected =
        json!({"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]});
    assert_eq!(*parameters, object(expected), "without fixed arguments");
}

#[test]
fn a_call_gets_the_tools_of_its_file_and_its_servers() {
    let servers = servers(&[
        ("todoist", &["add-tasks", "find-tasks", "complete-tasks", "delete-tasks"]),
        ("local", &["find-tasks", "a.b"]),
        ("login", &["end_call"]),
    ]);
    let (plan, off) = plan(&everything(), &servers);
    assert_eq!(off, []);
    assert_eq!(
        names(&plan),
        [
            "end_call",
            "transfer_call",
            "send_digits",
            "send_sms",
            "take_message",
            "finish",
            "book_table",
            "look",
            "add-tasks",
            "todoist_find-tasks",
            "local_find-tasks",
            "local_a_b",
            "login_end_call"
        ]
    );
    // A function's rules override the tool's, and those the server's.
    let rule = |name: &str| tool(&plan, name).rule.clone();
    let ms = std::time::Duration::from_millis;
    let server = Rule {
        ask_first: false,
        timeout: ms(8_000),
        filler_after: ms(2_000),
        stop_on_interruption: true,
        ..Rule::default()
    };
    assert_eq!(rule("todoist_find-tasks"), server);
    let add = Rule { ask_first: true, stop_on_interruption: false, max_per_call: 7, ..server };
    assert_eq!(rule("add-tasks"), add);
    let finish = Rule {
        ask_first: true,
        timeout: ms(20_000),
        filler_after: ms(1_000),
        stop_on_interruption: true,
        ..Rule::default()
    };
    assert_eq!(rule("finish"), finish);
    assert_eq!(rule("book_table"), Rule { ask_first: true, ..Rule::default() });
    // Fixed arguments are sent, and hidden from the model.
    let Job::Mcp { server, tool: own, fixed } = job(tool(&plan, "add-tasks")) else { panic!() };
    assert_eq!((server.name.as_str(), own.as_str()), ("todoist", "add-tasks"));
    assert_eq!(*fixed, object(json!({"project": "inbox"})));
    assert_eq!(tool(&plan, "add-tasks").arguments, None, "the server checks the arguments of its own tools");
    let parameters =
        json!({"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]});
    assert_eq!(tool(&plan, "add-tasks").parameters, object(parameters));
    let Job::Mcp { tool: own, fixed, .. } = job(tool(&plan, "finish")) else { panic!() };
    assert_eq!((own.as_str(), fixed), ("complete-tasks", &object(json!({"notify": false}))));
    assert_eq!(tool(&plan, "finish").parameters["required"], json!(["title", "project"]), "from the tool");
    // The prompt has a part for each server with a tool.
    for part in
        ["# Tools: todoist\n\nAdd a task for .", "# Tools: local\n\nLocal.", "# Tools: hosted\n\nSearch."]
    {
        assert!(plan.instructions.contains(part), "{}", plan.instructions);
    }
    // Targets of transfers, and fields of messages.
    assert_eq!(
        tool(&plan, "transfer_call").parameters["properties"]["to"],
        json!({"type": "string", "enum": ["reception", "boss"],
            "description": "Whom to put the caller through to. `boss`: Only when it burns"})
    );
    let judged: Vec<_> =
        plan.tools.iter().filter(|tool| tool.arguments.is_some()).map(|tool| tool.name.as_str()).collect();
    assert_eq!(judged, ["take_message", "book_table"], "the owner's own schemas");
    let Work::Transfer(targets) = &tool(&plan, "transfer_call").work else { panic!() };
    let rings: Vec<_> = targets.iter().map(|target| (target.name.as_str(), target.ring.as_secs())).collect();
    assert_eq!(rings, [("reception", 25), ("boss", 40)]);
    assert_eq!(tool(&plan, "take_message").parameters["required"], json!(["name", "urgent"]));
    let Job::TakeMessage(mailbox) = job(tool(&plan, "take_message")) else { panic!() };
    assert_eq!(
        {
            let webhook = mailbox.webhook.as_ref().unwrap();
            (webhook.url.as_str(), webhook.secret.expose())
        },
        ("https://hooks.example.com/messages", SECRET)
    );
    // Hosted servers.
    let [Hosted { label, url, authorization, headers, allowed, ask_first }] = plan.hosted.as_slice() else {
        panic!()
    };
    assert_eq!((label.as_str(), url.as_str()), ("hosted", "https://mcp.example.com/mcp"));
    assert_eq!(authorization.as_ref().unwrap().expose(), SECRET);
    assert_eq!(headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["X-Team"]);
    assert_eq!(allowed.as_deref().unwrap().join(" "), "search fetch drop");
    assert_eq!(*ask_first, AskFirst::Of(vec!["drop".to_owned(), "fetch".to_owned()]));
}

#[test]
fn servers_have_their_logins() {
    let server = "\"@example/server\"";
    let with_key = format!("{server}, \"--key=${{SECRET_VOICE}};\"");
    let roster = roster(&everything().replace(server, &with_key));
    let servers: Vec<_> = roster.by_name("a").unwrap().servers().collect();
    let names: Vec<&str> = servers.iter().map(|used| used.server.name.as_str()).collect();
    assert_eq!(names, ["todoist", "local", "login"]);
    assert_eq!(servers[0].allow, Some(vec!["add-tasks".to_owned(), "find-tasks".to_owned()]));
    assert_eq!((&servers[1].allow, servers[1].assistant.as_str()), (&None, "a"));
    assert_eq!(servers[0].named, ["add-tasks", "complete-tasks", "find-tasks"], "functions name tools too");
    let headers = |at: usize| match &servers[at].server.reach {
        Reach::Url { headers, .. } => {
            headers.iter().map(|(name, value)| format!("{name}: {}", value.expose())).collect::<Vec<_>>()
        }
        Reach::Command { command, env, secrets } => {
            let [secret] = secrets.as_slice() else { panic!("one secret from the environment") };
            vec![command.join(" "), format!("{}={}", env[0].0, env[0].1.expose()), secret.expose().to_owned()]
        }
    };
    assert_eq!(headers(0), [&format!("authorization: Bearer {SECRET}"), "x-team: desk"]);
    let command = format!("npx -y @example/server --key={SECRET};");
    assert_eq!(headers(1), [&command, &format!("API_KEY={SECRET}"), SECRET]);
    // RFC 7617: `me:hunter2value`.
    assert_eq!(headers(2), ["authorization: Basic bWU6aHVudGVyMnZhbHVl"]);
}

#[test]
fn unavailable_tools_are_off() {
    let (full, off) = plan(&everything(), &Nothing);
    assert_eq!(
        names(&full),
        ["end_call", "transfer_call", "send_digits", "take_message", "book_table", "look"]
    );
    assert!(!full.instructions.contains("Tools: todoist") && full.instructions.contains("Tools: hosted"));
    assert_eq!(off_names(&off), ["send_sms", "finish", "todoist", "local", "login"]);
    let text = std::fs::read_to_string("tests/assistants/valid/tools-off.yaml").unwrap();
    let (none, off) = plan(&text, &servers(&[]));
    assert_eq!((names(&none), none.hosted.len()), (vec!["end_call", "send_sms"], 0));
    assert!(!none.instructions.contains("Tools"), "{}", none.instructions);
    assert_eq!(
        off_names(&off),
        [
            "transfer_call.reception",
            "transfer_call.boss",
            "take_message",
            "create_task",
            "look",
            "todoist",
            "half",
            "local"
        ]
    );
    let file = "instructions: Hi.\nmcp: { todoist: { url: 'https://mcp.example.com/', allow: [add-task], instructions: Never. },\n  \
                empty: { url: 'https://mcp.example.com/empty' } }\n\
                functions: { done: { description: Done, mcp: { server: todoist, tool: finish } } }\n";
    let (none, off) = plan(file, &servers(&[("todoist", &["add-tasks", "find-tasks"]), ("empty", &[])]));
    assert!(none.tools.is_empty() && !none.instructions.contains("Never"));
    assert_eq!(off_names(&off), ["done", "todoist.add-task", "empty"]);
    assert!(off[1].1.to_string().contains("`add-tasks`"), "a suggestion: {}", off[1].1);
}

#[test]
fn a_rule_for_an_unknown_tool_is_reported() {
    for rules in ["approval: [pay_, look]", "tools: { pay_: { approval: always }, look: { timeout: 3s } }"] {
        let file =
            format!("instructions: Hi.\nmcp: {{ bank: {{ url: 'https://mcp.example.com/', {rules} }} }}\n");
        let (plan, off) = plan(&file, &servers(&[("bank", &["pay", "look"])]));
        assert_eq!(names(&plan), ["pay", "look"]);
        assert_eq!(off_names(&off), ["bank.pay_"], "{rules}");
    }
}

#[test]
fn the_schema_of_a_message_suits_every_provider() {
    let file = format!(
        "instructions: Hi.\ncall_control: {{ take_message: {{ to: {{ email: owner@example.com }}, \
         description: {}, fields: {{ numbers: {{ type: array }} }} }} }}\n",
        "x".repeat(2_000)
    );
    let (plan, _) = plan(&file, &Nothing);
    let tool = tool(&plan, "take_message");
    assert_eq!(tool.parameters["properties"]["numbers"], json!({"type": "array", "items": {}}));
    assert_eq!(tool.parameters["required"], json!(["numbers"]));
    assert_eq!(tool.description.chars().count(), 1_024);
}

#[test]
fn a_function_needs_no_entry_in_allow() {
    let file = "instructions: Hi.\nmcp: { todoist: { url: 'https://mcp.example.com/', allow: [], instructions: Use it. } }\n\
                functions: { add: { description: Adds, mcp: { server: todoist, tool: add-tasks } } }\n";
    let (plan, off) = plan(file, &servers(&[("todoist", &["add-tasks", "find-tasks"])]));
    assert_eq!((names(&plan), off.len()), (vec!["add"], 0));
    assert!(plan.instructions.contains("Use it."));
}

#[test]
fn a_caller_without_a_number_cannot_get_texts() {
    let roster = roster("instructions: Hi.\ncall_control: { send_sms: true }\n");
    let (assistant, supply) = (roster.by_name("a").unwrap(), servers(&[]));
    assert_eq!(names(&assistant.plan(&facts("+15550109999"), &supply).unwrap()), ["send_sms"]);
    assert!(assistant.plan(&facts("anonymous"), &supply).unwrap().tools.is_empty());
    let off = assistant.tools_off(&facts("anonymous"), &supply);
    assert_eq!(off_names(&off), ["send_sms"]);
}

#[test]
fn the_schema_limits_the_keys() {
    let (plan, _) = plan("instructions: hi\ncall_control: { send_digits: true }\n", &Nothing);
    let pattern = &tool(&plan, "send_digits").parameters["properties"]["digits"]["pattern"];
    assert_eq!(*pattern, format!("^[0-9*#w]{{1,{MAX_KEYS}}}$"));
}

#[test]
fn many_and_large_tools_are_bounded() {
    let file = "instructions: Hi.\nmcp: { many: { url: 'https://mcp.example.com/' } }\ncall_control: { end_call: true }\n";
    let with = |count: usize, words: usize| {
        let schema =
            object(json!({"properties": {"a": {"type": "string", "description": "y".repeat(words)}}}));
        let tools = (0..count).map(|at| Listed::new(format!("tool-{at:03}"), "x".repeat(2_000), &schema));
        let servers = Servers { tools: BTreeMap::from([("many", tools.collect())]), texts: false };
        plan(file, &servers)
    };
    let (some, off) = with(20, 1_000);
    assert_eq!((some.tools.len(), off.len()), (21, 0));
    assert_eq!(some.tools[20].description.chars().count(), 1_024);
    assert!(some.tools[20].parameters["properties"]["a"].get("description").is_some());
    let (many, off) = with(200, 100);
    assert_eq!(many.tools.len(), 121, "the first of 128 that fit 128 KiB");
    assert_eq!(many.tools.len() + off.len(), 201);
    assert!(many.tools[1].parameters["properties"]["a"].get("description").is_none());
    assert_eq!(off[0].0, "many.tool-127");
    let size: usize =
        many.tools.iter().map(|t| t.description.len() + json!(t.parameters).to_string().len()).sum();
    assert!(size < 128 * 1024, "{size}");
}

#[test]
fn large_schemas_do_not_delay_a_call() {
    let file = "instructions: Hi.\nmcp: { many: { url: 'https://mcp.example.com/' } }\n";
    // Too large for a model, even when shortened.
    let names = (0..500).map(|at| (format!("{at:0>40}"), json!({"type": "string"})));
    let schema = object(json!({"properties": Value::Object(names.collect())}));
    let tools = (0..1_000).map(|at| Listed::new(format!("tool-{at:04}"), String::new(), &schema));
    let servers = Servers { tools: BTreeMap::from([("many", tools.collect())]), texts: false };
    let (plan, off) = plan(file, &servers);
    assert_eq!((plan.tools.len(), off.len()), (0, 1_000));
    let read = off.iter().filter(|(_, why)| why.to_string().contains("the schema of its arguments")).count();
    assert!((1..64).contains(&read), "{read} schemas were read");
    assert!(off[999].1.to_string().contains("list the ones it needs in `allow`"), "{}", off[999].1);
}

#[test]
fn a_request_is_rendered_for_the_call() {
    let (plan, _) = plan(&everything(), &Nothing);
    let http = |name: &str| -> HttpCall {
        match job(tool(&plan, name)) {
            Job::Http(call) => call.clone(),
            _ => panic!("{name} is not an HTTP function"),
        }
    };
    let request = http("book_table").request(&object(json!({"guests": 4, "day": "2026-12-24"}))).unwrap();
    assert_eq!(request.url, "https://api.example.com/days/2026-12-24?from=%2B15550109999");
    assert_eq!(request.method, "PUT");
    let body: Value = serde_json::from_str(request.body.as_deref().unwrap()).unwrap();
    assert_eq!(body, json!({"guests": 4, "who": "?"}));
    let headers: Vec<_> =
        request.headers.iter().map(|(name, value)| format!("{name}: {}", value.expose())).collect();
    assert_eq!(
        headers,
        [
            &format!("Authorization: Bearer {SECRET}"),
            "X-Day: Thursday, 24 December 2026",
            "content-type: application/json"
        ]
    );
    // An error of a filter becomes an answer to the model, without the value.
    let refused = http("book_table").request(&object(json!({"guests": 4, "day": "soon"}))).unwrap_err();
    assert!(refused.contains("`date`") && !refused.contains("soon"), "{refused}");
    assert_eq!(
        http("look").request(&Map::new()).unwrap().url,
        "https://api.example.com/CA00000000000000000000000000000001"
    );
    assert_eq!(http("book_table").part(&json!({"tables": [{"name": "Two"}]})), Some(json!("Two")));
}

#[test]
fn the_shipped_todoist_blocks_work() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let provider = [Arc::new(Provider::openai(OPENAI_REALTIME_URL, None))];
    let on = [("TODOIST_MCP_URL", "https://mcp.example.com/"), ("TODOIST_MCP_TOKEN", SECRET)];
    let environment = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let example = std::fs::read_to_string(root.join("docs/examples/todoist-functions.yaml")).unwrap();
    let example =
        Folder { assistants: vec![SourceFile::new("todoist-functions.yaml", example)], ..Folder::default() };
    let servers = servers(&[(
        "todoist",
        &["add-tasks", "find-tasks", "find-tasks-by-date", "complete-tasks", "user-info"],
    )]);
    let check = |folder: &Folder, pairs: &[(&str, &str)]| {
        let checked = Roster::check(folder, &environment(pairs), &provider);
        assert_eq!(switchboard::problem::plain(&checked.problems()), "");
        checked.roster.unwrap()
    };
    let planned = |roster: &Roster, name: &str| {
        roster.by_name(name).unwrap().plan(&facts("+15550109999"), &servers).unwrap()
    };
    // Off without settings, even if a login is left.
    let shipped = read_folder(&root.join("assistants")).unwrap();
    for pairs in [&[][..], &[("TODOIST_MCP_PASSWORD", SECRET)]] {
        let plan = planned(&check(&shipped, pairs), "personal");
        assert_eq!((names(&plan), plan.instructions.contains("Todoist")), (vec!["end_call"], false));
        assert_eq!(names(&planned(&check(&example, pairs), "todoist-functions")), ["end_call"]);
    }
    let words = [on[0], on[1], ("TODOIST_INSTRUCTIONS", "Use {{ braces }}.")];
    let plan = planned(&check(&shipped, &words), "personal");
    assert_eq!(names(&plan), ["end_call", "add-tasks", "find-tasks", "find-tasks-by-date", "complete-tasks"]);
    assert!(plan.instructions.contains("# Tools: todoist\n\nUse {{ braces }}."), "{}", plan.instructions);
    let plan = planned(&check(&example, &on), "todoist-functions");
    assert_eq!(names(&plan), ["end_call", "create_task", "get_tasks"]);
    let login = [on[0], ("TODOIST_MCP_USER", "me"), ("TODOIST_MCP_PASSWORD", SECRET)];
    check(&shipped, &login);
    // `via: provider` makes it a hosted server.
    let mut hosted = shipped.clone();
    let personal = hosted.assistants.iter_mut().find(|file| file.path.ends_with("personal.yaml")).unwrap();
    let text = String::from_utf8(personal.bytes.clone()).unwrap();
    personal.bytes = text.replace("via: runtime", "via: provider").into_bytes();
    let plan = planned(&check(&hosted, &on), "personal");
    assert_eq!((names(&plan), plan.hosted.len()), (vec!["end_call"], 1));
}
