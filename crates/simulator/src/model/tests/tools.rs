//! Functions, chains of calls, hosted servers and approvals, tested with raw frames.

use super::*;

fn options(replies: Vec<Reply>) -> ModelOptions {
    let script = Script { replies, ..Script::default() };
    ModelOptions { script, speech: Speech::Tagged, burst: 100.0, ..plain() }
}

fn function(name: &str) -> Value {
    json!({"type": "function", "name": name, "parameters": {"type": "object"}})
}

fn crm(approval: Value) -> Value {
    json!({"type": "mcp", "server_label": "crm", "server_url": "https://mcp.example.com/mcp",
        "authorization": "t0", "require_approval": approval})
}

fn hosting(listing: Listing) -> Hosting {
    let read_only = HostedTool { name: "find".to_owned(), read_only: true };
    let mut server = HostedServer { listing, ..HostedServer::new("crm", &["create"]) };
    server.tools.push(read_only);
    Hosting { servers: vec![server], ..Hosting::default() }
}

fn turn() -> Vec<u8> {
    [voice(300), silence(300)].concat()
}

fn answer(call: &Value, output: &str) -> Value {
    json!({"type": "conversation.item.create", "event_id": "c9", "item":
        {"type": "function_call_output", "call_id": call["call_id"], "output": output}})
}

fn approve(request: &Value, approve: bool) -> Value {
    let id = format!("mcpa_{}", request["id"].as_str().unwrap());
    json!({"type": "conversation.item.create", "item": {"id": id, "type": "mcp_approval_response",
        "approval_request_id": request["id"], "approve": approve, "reason": "ask the caller first"}})
}

fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

impl Client {
    /// The output of the next response that ends.
    async fn output(&mut self) -> Vec<Value> {
        let done = self.wait("response.done").await;
        done["response"]["output"].as_array().unwrap().clone()
    }

    /// Asks for a response and returns its output.
    async fn respond(&mut self, response: Value) -> Vec<Value> {
        self.send(json!({"type": "response.create", "response": response})).await;
        self.output().await
    }
}

fn words(output: &[Value]) -> &str {
    output.iter().find_map(|item| item["content"][0]["transcript"].as_str()).unwrap_or("nothing")
}

#[tokio::test]
async fn each_of_several_calls_has_its_own_index_and_output() {
    let reply = Reply::say("Both.").and_call("a", "{}").and_call("b", "not JSON").then(Reply::say("Done."));
    let server = ModelServer::start(options(vec![reply])).await.unwrap();
    let mut client = Client::ready(&server, json!({"tools": [function("a"), function("b")]})).await;
    client.append(&turn()).await;
    let events = client.through("response.done").await;
    let calls = of_kind(&events, "response.function_call_arguments.done");
    let shown: Vec<_> = calls.iter().map(|call| (&call["output_index"], &call["name"])).collect();
    assert_eq!(shown, [(&json!(1), &json!("a")), (&json!(2), &json!("b"))]);
    assert_ne!(calls[0]["call_id"], calls[1]["call_id"]);
    let output = events.last().unwrap()["response"]["output"].as_array().unwrap().clone();
    assert_eq!((&output[1]["call_id"], &output[2]["arguments"]), (&calls[0]["call_id"], &json!("not JSON")));

    client.send(answer(calls[1], "2")).await;
    client.wait("conversation.item.done").await;
    let twice = client.error(answer(calls[1], "2")).await;
    assert_eq!((&twice["code"], &twice["event_id"]), (&json!("item_create_invalid_call_id"), &Value::Null));
    let unknown = json!({"call_id": "call_x"});
    assert_eq!(client.error(answer(&unknown, "")).await["code"], "item_create_invalid_call_id");
    client.send(answer(calls[0], "1")).await;
    assert_eq!(words(&client.respond(json!({})).await), "Done.");
    let log = &server.sessions()[0];
    let answered: Vec<_> =
        log.calls.iter().map(|call| call.answered.as_ref().map(|(_, output)| &**output)).collect();
    assert_eq!(answered, [Some("1"), Some("2")]);
    server.stop().await;
}

#[tokio::test]
async fn without_parallel_calls_each_call_has_its_own_response() {
    let reply = Reply::call("a", "{}").and_call("b", "{}").then(Reply::say("Done."));
    let server = ModelServer::start(options(vec![reply])).await.unwrap();
    let session = json!({"tools": [function("a"), function("b")], "parallel_tool_calls": false});
    let mut client = Client::ready(&server, session).await;
    client.append(&turn()).await;
    for name in ["a", "b"] {
        let output = client.output().await;
        assert_eq!((output.len(), &output[0]["name"]), (1, &json!(name)));
        client.send(answer(&output[0], "{}")).await;
        client.send(json!({"type": "response.create"})).await;
    }
    assert_eq!(words(&client.output().await), "Done.");
    server.stop().await;
}

#[tokio::test]
async fn a_reply_can_depend_on_what_a_result_contains() {
    let again = Reply::call("pay", r#"{"sum":2}"#).then(Reply::say("Paid."));
    let script = vec![
        Reply::call("pay", r#"{"sum":1}"#)
            .then_if("ask the caller", Reply::say("Shall I pay?"))
            .then(Reply::say("Paid without a question.")),
        again,
    ];
    let server = ModelServer::start(options(script)).await.unwrap();
    let mut client = Client::ready(&server, json!({"tools": [function("pay")]})).await;
    client.append(&turn()).await;
    let call = client.output().await.remove(0);

    // A filler does not answer the result.
    let filler = json!({"instructions": "You are Ann.", "metadata": {"purpose": "filler"}});
    assert_eq!(words(&client.respond(filler).await), speech::MOMENT);
    client.send(answer(&call, "Refused: ask the caller first.")).await;
    assert_eq!(words(&client.respond(json!({})).await), "Shall I pay?");
    client.append(&turn()).await;
    let call = client.output().await.remove(0);
    assert_eq!(call["arguments"], r#"{"sum":2}"#);
    client.send(answer(&call, "ok")).await;
    assert_eq!(words(&client.respond(json!({})).await), "Paid.");
    server.stop().await;
}

#[tokio::test]
async fn a_reply_that_calls_is_skipped_while_calls_are_not_allowed() {
    let reply = Reply::call("a", "{}").then(Reply::call("a", r#"{"n":2}"#)).then(Reply::say("Only words."));
    let server = ModelServer::start(options(vec![reply, Reply::call("a", "{}")])).await.unwrap();
    let mut client = Client::ready(&server, json!({"tools": [function("a")]})).await;
    client.append(&turn()).await;
    let call = client.output().await.remove(0);
    client.send(answer(&call, "1")).await;
    assert_eq!(words(&client.respond(json!({"tool_choice": "none"})).await), "Only words.");
    client
        .send(json!({"type": "session.update", "session": {"type": "realtime", "tool_choice": "none"}}))
        .await;
    client.append(&turn()).await;
    assert_eq!(words(&client.output().await), speech::REST, "a reply that could only call");
    server.stop().await;
}

#[tokio::test]
async fn a_result_is_answered_after_a_filler_and_after_a_failure() {
    let reply = Reply::call("a", "{}").then(Reply::say("It is done."));
    let faults = vec![Fault::ResponseFailed { nth: 3, code: "server_error" }];
    let server = ModelServer::start(ModelOptions { faults, ..options(vec![reply]) }).await.unwrap();
    let mut client = Client::ready(&server, json!({"tools": [function("a")]})).await;
    client.append(&turn()).await;
    let call = client.output().await.remove(0);
    client.greet("Wait.").await;
    client.wait("response.created").await;
    client.send(answer(&call, "1")).await;
    let early = client.error(json!({"type": "response.create"})).await;
    assert_eq!(early["code"], "conversation_already_has_active_response");
    assert_eq!(words(&client.output().await), "Wait.");
    assert!(client.respond(json!({})).await.is_empty(), "the fault");
    assert_eq!(words(&client.respond(json!({})).await), "It is done.");
    server.stop().await;
}

#[tokio::test]
async fn a_call_can_be_spoken_as_text() {
    let reply = Reply::call("lookup", r#"{"no":7}"#);
    let options = ModelOptions { faults: vec![Fault::WritesCalls], ..options(vec![reply]) };
    let server = ModelServer::start(options).await.unwrap();
    let mut client = Client::ready(&server, json!({"tools": [function("lookup")]})).await;
    client.append(&turn()).await;
    assert_eq!(words(&client.output().await), r#"lookup({"no":7})"#);
    assert!(server.sessions()[0].calls.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn an_update_with_invalid_tools_is_refused() {
    let server = ModelServer::start(plain()).await.unwrap();
    let mut client = Client::ready(&server, json!({"tools": [function("kept")]})).await;
    let with = |key: &str, value: Value| {
        let mut tool = function("f");
        tool[key] = value;
        tool
    };
    for (what, tools, code, param) in [
        (
            "schema",
            json!([function("f"), with("parameters", json!({"properties": {}}))]),
            "invalid_function_parameters",
            "session.tools[1].parameters",
        ),
        (
            "top level",
            json!([with("parameters", json!({"type": "object", "anyOf": []}))]),
            "invalid_function_parameters",
            "session.tools[0].parameters",
        ),
        ("name", json!([with("name", json!("crm.find"))]), "invalid_value", "session.tools[0].name"),
        ("long name", json!([with("name", json!("n".repeat(65)))]), "invalid_value", "session.tools[0].name"),
        ("same name", json!([function("f"), function("f")]), "invalid_value", "session.tools[1].name"),
        (
            "description",
            json!([with("description", json!(["text"]))]),
            "invalid_type",
            "session.tools[0].description",
        ),
        ("strict", json!([with("strict", json!(true))]), "unknown_parameter", "session.tools[0].strict"),
        (
            "same label",
            json!([crm(json!("never")), crm(json!("never"))]),
            "invalid_value",
            "session.tools[1].server_label",
        ),
        ("approval", json!([crm(json!("sometimes"))]), "invalid_value", "session.tools[0].require_approval"),
    ] {
        let update = json!({"type": "session.update", "session": {"type": "realtime", "tools": tools}});
        let error = client.error(update).await;
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &json!(param)), "{what}");
    }
    client.send(json!({"type": "session.update", "session": {"type": "realtime"}})).await;
    assert_eq!(client.wait("session.updated").await["session"]["tools"], json!([function("kept")]));
    server.stop().await;
}

#[tokio::test]
async fn hosted_tools_are_listed_once_after_the_update() {
    let options = ModelOptions { hosting: hosting(Listing::Works), ..plain() };
    let server = ModelServer::start(options).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    let mut tool = crm(json!("never"));
    tool["allowed_tools"] = json!(["find", "unknown"]);
    let update =
        |tools: Value| json!({"type": "session.update", "session": {"type": "realtime", "tools": tools}});
    client.send(update(json!([tool]))).await;
    let events = client.through("conversation.item.done").await;
    assert_eq!(
        order(&events),
        [
            "session.updated",
            "conversation.item.added",
            "mcp_list_tools.in_progress",
            "mcp_list_tools.completed",
            "conversation.item.done",
        ]
    );
    assert!(events[0]["session"]["tools"][0].get("authorization").is_none());
    assert_eq!(events[1]["item"]["tools"], json!([]));
    let item = &events[4]["item"];
    assert_eq!((&item["type"], &item["server_label"]), (&json!("mcp_list_tools"), &json!("crm")));
    let names: Vec<_> = item["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, [&json!("find")]);
    // A server that is only named by its label keeps its definition.
    client.send(update(json!([{"type": "mcp", "server_label": "crm"}]))).await;
    let kept = client.wait("session.updated").await["session"]["tools"][0].take();
    assert_eq!((&kept["require_approval"], &kept["server_url"]), (&json!("never"), &tool["server_url"]));
    client.send(json!({"type": "input_audio_buffer.clear"})).await;
    assert_eq!(order(&client.through("input_audio_buffer.cleared").await), ["input_audio_buffer.cleared"]);
    server.stop().await;
}

#[tokio::test]
async fn a_hosted_tool_can_be_called_only_after_it_is_listed() {
    for listing in [Listing::Fails, Listing::Late(Duration::from_secs(1))] {
        let call = || Reply::default().and_hosted(HostedCall::new("crm", "find", "{}", "Ann"));
        let options = ModelOptions { hosting: hosting(listing), ..options(vec![call(), call()]) };
        let server = ModelServer::start(options).await.unwrap();
        let mut client = Client::ready(&server, json!({"tools": [crm(json!("never"))]})).await;
        let end = if listing == Listing::Fails { "failed" } else { "in_progress" };
        let ended = client.wait(&format!("mcp_list_tools.{end}")).await;
        assert_eq!(ended.as_object().unwrap().len(), 3, "type, event_id and item_id");
        client.append(&turn()).await;
        assert_eq!(words(&client.output().await), speech::REST);
        if listing != Listing::Fails {
            client.wait("mcp_list_tools.completed").await;
            client.append(&turn()).await;
            client.wait("response.mcp_call.completed").await;
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_hosted_call_ends_after_its_response_or_within_it() {
    const BEGIN: &[&str] = &[
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.mcp_call.in_progress",
    ];
    const END: &[&str] =
        &["response.mcp_call.completed", "conversation.item.done", "response.output_item.done"];
    for within_response in [false, true] {
        let call = HostedCall::new("crm", "find", r#"{"name":"Ä"}"#, "Ann");
        let reply = Reply { after_call: Some("Here is Ann.".into()), ..Reply::default().and_hosted(call) };
        let hosting = Hosting { within_response, ..hosting(Listing::Works) };
        let server = ModelServer::start(ModelOptions { hosting, ..options(vec![reply]) }).await.unwrap();
        let mut client = Client::ready(&server, json!({"tools": [crm(json!("never"))]})).await;
        client.append(&turn()).await;
        let events = if within_response {
            let last = "response.done";
            let events = client.through(last).await;
            assert_eq!(order(&events)[order(&events).len() - 10..], [BEGIN, END, &[last]].concat());
            assert_eq!(events.last().unwrap()["response"]["output"][0]["output"], "Ann");
            events
        } else {
            let events = client.through("response.output_item.done").await;
            assert_eq!(
                order(&events)[order(&events).len() - 10..],
                [BEGIN, &["response.done"], END].concat()
            );
            events
        };
        let added = of_kind(&events, "response.output_item.added")[0]["item"].clone();
        assert_eq!(
            added,
            json!({"id": added["id"], "type": "mcp_call", "server_label": "crm", "name": "find", "arguments": "",
                "approval_request_id": null, "output": null, "error": null})
        );
        let item = &of_kind(&events, "response.output_item.done")[0]["item"];
        assert_eq!((&item["output"], &item["arguments"]), (&json!("Ann"), &json!(r#"{"name":"Ä"}"#)));
        // No response follows without a request.
        client.send(json!({"type": "input_audio_buffer.clear"})).await;
        let rest = order(&client.through("input_audio_buffer.cleared").await);
        assert!(!rest.iter().any(|kind| kind.starts_with("response.")), "{rest:?}");
        assert_eq!(words(&client.respond(json!({})).await), "Here is Ann.");
        assert!(server.sessions()[0].hosted[0].ended.is_some());
        server.stop().await;
    }
}

#[tokio::test]
async fn an_early_request_gets_no_result() {
    let call = HostedCall::new("crm", "find", "{}", "Ann").taking(Duration::from_millis(600));
    let reply = Reply::default().and_hosted(call).then(Reply::say("Here is Ann."));
    let options = ModelOptions { hosting: hosting(Listing::Works), ..options(vec![reply]) };
    let server = ModelServer::start(options).await.unwrap();
    let mut client = Client::ready(&server, json!({"tools": [crm(json!("never"))]})).await;
    client.append(&turn()).await;
    client.wait("response.done").await;
    assert_eq!(words(&client.respond(json!({})).await), speech::MOMENT);
    client.wait("response.mcp_call.completed").await;
    assert_eq!(words(&client.respond(json!({})).await), "Here is Ann.");
    server.stop().await;
}

#[tokio::test]
async fn a_hosted_call_fails_in_three_ways() {
    for (error, shown) in [
        (
            HostedError::Protocol { code: -32_602, message: "no".into() },
            json!({"type": "protocol_error", "code": -32602, "message": "no"}),
        ),
        (
            HostedError::Http { code: 502, message: "gone".into() },
            json!({"type": "http_error", "code": 502, "message": "gone"}),
        ),
        (HostedError::Tool("full".into()), json!({"type": "tool_execution_error", "message": "full"})),
    ] {
        let call = HostedCall::new("crm", "find", "{}", "").failing(error);
        let reply = Reply::default().and_hosted(call).then_if("message", Reply::say("That failed."));
        let options = ModelOptions { hosting: hosting(Listing::Works), ..options(vec![reply]) };
        let server = ModelServer::start(options).await.unwrap();
        let mut client = Client::ready(&server, json!({"tools": [crm(json!("never"))]})).await;
        client.append(&turn()).await;
        client.wait("response.mcp_call.failed").await;
        let item = client.wait("response.output_item.done").await["item"].take();
        assert_eq!((&item["error"], &item["output"]), (&shown, &Value::Null));
        assert_eq!(words(&client.respond(json!({})).await), "That failed.");
        server.stop().await;
    }
}

#[tokio::test]
async fn an_approved_call_runs_and_a_denied_one_does_not() {
    for (approved, in_response) in [(true, false), (true, true), (false, false)] {
        let reply = Reply::default()
            .and_hosted(HostedCall::new("crm", "create", r#"{"n":1}"#, "made"))
            .then_if("made", Reply::say("It is made."))
            .then_if("ask the caller", Reply::say("Shall I?"));
        let hosting = Hosting { approved_in_response: in_response, ..hosting(Listing::Works) };
        let server = ModelServer::start(ModelOptions { hosting, ..options(vec![reply]) }).await.unwrap();
        let mut client = Client::ready(&server, json!({"tools": [crm(json!("always"))]})).await;
        client.append(&turn()).await;
        let events = client.through("response.done").await;
        assert_eq!(
            order(&events)[order(&events).len() - 6..],
            [
                "response.created",
                "response.output_item.added",
                "conversation.item.added",
                "conversation.item.done",
                "response.output_item.done",
                "response.done",
            ]
        );
        let request = events.last().unwrap()["response"]["output"][0].clone();
        assert_eq!(
            request,
            json!({"id": request["id"], "type": "mcp_approval_request", "server_label": "crm", "name": "create",
                "arguments": r#"{"n":1}"#})
        );
        assert!(request["id"].as_str().unwrap().starts_with("mcpr_"));
        let nobody = json!({"id": "mcpr_x"});
        let code = "item_create_invalid_approval_request_id";
        assert_eq!(client.error(approve(&nobody, true)).await["code"], code);
        client.send(approve(&request, approved)).await;
        client.wait("conversation.item.done").await;
        if approved {
            if in_response {
                client.send(json!({"type": "response.create"})).await;
            }
            let events = client.through("response.mcp_call.completed").await;
            let done = of_kind(&events, "response.mcp_call_arguments.done")[0];
            let item = client.wait("conversation.item.done").await["item"].take();
            assert_eq!((&item["id"], &item["approval_request_id"]), (&done["item_id"], &request["id"]));
            assert_eq!(item["output"], "made");
        }
        let mut again = approve(&request, true);
        again["item"]["id"] = json!("mcpa_again");
        assert_eq!(client.error(again).await["code"], code, "answered twice");
        let said = words(&client.respond(json!({})).await).to_owned();
        assert_eq!(said, if approved { "It is made." } else { "Shall I?" });
        let log = &server.sessions()[0];
        assert_eq!((log.hosted.len(), log.approvals[0].approved), (usize::from(approved), Some(approved)));
        server.stop().await;
    }
}

#[tokio::test]
async fn approval_depends_on_the_tool() {
    for (rule, find, create) in [
        (json!("never"), false, false),
        (json!("always"), true, true),
        (Value::Null, true, true),
        (json!({"never": {"tool_names": ["find"]}}), false, true),
        (json!({"never": {"read_only": true}}), false, true),
        (json!({"always": {"tool_names": ["create"]}, "never": {"tool_names": ["find"]}}), false, true),
    ] {
        let reply = Reply::default()
            .and_hosted(HostedCall::new("crm", "find", "{}", ""))
            .and_hosted(HostedCall::new("crm", "create", "{}", ""));
        let options = ModelOptions { hosting: hosting(Listing::Works), ..options(vec![reply]) };
        let server = ModelServer::start(options).await.unwrap();
        let mut client = Client::ready(&server, json!({"tools": [crm(rule.clone())]})).await;
        client.append(&turn()).await;
        let output = client.output().await;
        let asks = |item: &Value| item["type"] == "mcp_approval_request";
        assert_eq!((asks(&output[0]), asks(&output[1])), (find, create), "{rule}");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_call_can_be_cut_off_by_the_server_or_by_the_caller() {
    let reply = || Reply::call("pay", r#"{"sum":1}"#);
    let incomplete = Fault::ResponseIncomplete { nth: 1, reason: "max_output_tokens" };
    let cut_by_host = ModelOptions { faults: vec![incomplete], ..options(vec![reply()]) };
    let slow = ModelOptions { call_takes: LIMIT, ..options(vec![reply()]) };
    for (options, status) in [(cut_by_host, "incomplete"), (slow, "cancelled")] {
        let server = ModelServer::start(options).await.unwrap();
        let mut client = Client::ready(&server, json!({"tools": [function("pay")]})).await;
        client.append(&turn()).await;
        if status == "cancelled" {
            let added = client.wait("response.output_item.added").await;
            assert_eq!(added["item"]["status"], "in_progress");
            client.append(&turn()).await;
        }
        let done = client.wait("response.done").await["response"].take();
        let call = &done["output"][0];
        assert_eq!((&done["status"], &call["status"]), (&json!(status), &json!("incomplete")));
        assert_eq!(call["arguments"], r#"{"su"#);
        assert!(server.sessions()[0].calls.is_empty(), "nobody waits for its result");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_request_for_a_response_can_be_refused() {
    let faults = vec![Fault::RefuseResponse { nth: 2, code: "rate_limit_exceeded" }];
    let server = ModelServer::start(ModelOptions { faults, ..options(vec![]) }).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    client.respond(json!({})).await;
    let error = client.error(json!({"type": "response.create", "event_id": "ask2"})).await;
    assert_eq!((&error["code"], &error["event_id"]), (&json!("rate_limit_exceeded"), &json!("ask2")));
    client.respond(json!({})).await;
    assert_eq!(server.sessions()[0].responses.len(), 2);
    server.stop().await;
}
