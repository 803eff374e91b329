//! A function that a response outside the conversation must call.

use super::*;

/// Asks for a form with one field, which may take so many tokens.
async fn ask(client: &mut Client, most_tokens: u64) {
    let parameters =
        json!({"type": "object", "properties": {"summary": {"type": "string"}}, "required": ["summary"]});
    client
        .send(json!({"type": "response.create", "event_id": "ask", "response": {
            "conversation": "none", "output_modalities": ["text"], "instructions": "Fill it in.",
            "tools": [{"type": "function", "name": "form", "parameters": parameters}],
            "tool_choice": {"type": "function", "name": "form"}, "max_output_tokens": most_tokens,
            "metadata": {"purpose": "form"}}}))
        .await;
}

/// The response with this purpose, when it is done.
async fn done(client: &mut Client, purpose: &str) -> Value {
    loop {
        let mut done = client.wait("response.done").await;
        if done["response"]["metadata"]["purpose"] == purpose {
            return done["response"].take();
        }
    }
}

async fn said(client: &mut Client, words: &str) {
    let content = json!([{"type": "input_text", "text": words}]);
    let item = json!({"type": "message", "role": "user", "content": content});
    client.send(json!({"type": "conversation.item.create", "item": item})).await;
    client.wait("conversation.item.done").await;
}

#[tokio::test]
async fn a_form_is_filled_in_beside_the_response_under_way() {
    let server = ModelServer::start(plain()).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    said(&mut client, "I need a crown.").await;
    client.greet(&"This greeting takes a while. ".repeat(5)).await;
    client.wait("response.output_audio.delta").await;
    ask(&mut client, 100).await;
    let seen = client.through("response.done").await;
    assert!(
        seen.iter()
            .all(|event| event["item"]["name"] != "form" || event["type"] != "conversation.item.added")
    );
    let form = &seen.last().unwrap()["response"];
    assert_eq!((&form["metadata"]["purpose"], &form["status"]), (&json!("form"), &json!("completed")));
    assert_eq!((&form["conversation_id"], &form["max_output_tokens"]), (&Value::Null, &json!(100)));
    let call = &form["output"][0];
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&call["name"], &arguments["summary"]),
        (&json!("form"), &json!("The caller said: I need a crown."))
    );
    assert_eq!(done(&mut client, "greeting").await["status"], "completed", "it goes on");
    let log = &server.sessions()[0];
    assert!(log.errors.is_empty());
    assert_eq!(log.responses.iter().map(|one| one.aim).collect::<Vec<_>>(), [Aim::Greeting, Aim::Form]);
}

#[tokio::test]
async fn only_a_function_among_the_tools_can_be_forced() {
    let server = ModelServer::start(plain()).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    let choice = json!({"type": "function", "name": "form"});
    let error = client
        .error(json!({"type": "response.create", "response": {"tool_choice": choice, "tools": []}}))
        .await;
    assert_eq!((&error["code"], &error["param"]), (&json!("invalid_value"), &json!("response.tool_choice")));
}

#[tokio::test]
async fn a_response_ends_at_its_most_tokens() {
    for forms in [Vec::new(), vec![Reply::say("I would rather talk about the weather today.")]] {
        let server = ModelServer::start(ModelOptions { forms, ..plain() }).await.unwrap();
        let mut client = Client::ready(&server, json!({})).await;
        said(&mut client, "I need a crown, and a bridge, and a filling.").await;
        ask(&mut client, 9).await;
        let form = done(&mut client, "form").await;
        assert_eq!(form["status_details"], json!({"type": "incomplete", "reason": "max_output_tokens"}));
        assert_eq!(
            (&form["output"][0]["status"], &form["usage"]["output_tokens"]),
            (&json!("incomplete"), &json!(9))
        );
    }
    // White space counts, too, and so does speech.
    let endless =
        Fault::once(Moment::Response(Which::For(Aim::Form), Point::Created), Trouble::EndlessArguments);
    let server = ModelServer::start(ModelOptions { faults: vec![endless], ..plain() }).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    ask(&mut client, 9).await;
    assert_eq!(done(&mut client, "form").await["status"], "incomplete");
    client
        .send(json!({"type": "response.create", "response": {"max_output_tokens": 9,
            "metadata": {"purpose": "greeting", "line": "This greeting takes a while."}}}))
        .await;
    assert_eq!(done(&mut client, "greeting").await["status"], "incomplete");
}

#[tokio::test]
async fn the_script_answers_the_first_requests_for_forms() {
    let forms = vec![Reply::say("No."), Reply::call("other", "{}"), Reply::call("form", "{\"summary\":")];
    let server = ModelServer::start(ModelOptions { forms, ..plain() }).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    let mut outputs = Vec::new();
    for _ in 0..4 {
        ask(&mut client, 100).await;
        outputs.push(done(&mut client, "form").await["output"][0].take());
    }
    assert_eq!(outputs[0]["content"][0], json!({"type": "output_text", "text": "No."}));
    assert_eq!((&outputs[1]["name"], &outputs[2]["arguments"]), (&json!("other"), &json!("{\"summary\":")));
    assert_eq!(outputs[3]["name"], "form");
}
