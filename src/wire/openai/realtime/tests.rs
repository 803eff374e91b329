//! Frames in both directions, against the reference.

use super::*;

fn reading(text: &str) -> Result<Incoming<'static>, BadEvent> {
    parse(Box::leak(Box::new(Bytes::copy_from_slice(text.as_bytes()))))
}

fn all(frames: &str) -> String {
    let read = frames.lines().map(|line| {
        let kind = serde_json::from_str::<Value>(line).expect(line)["type"].to_string();
        format!("{kind} {:?}", reading(line).expect(line))
    });
    read.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_event_of_the_reference_is_read() {
    let read = all(include_str!("../../../../tests/frames/realtime-incoming.jsonl"));
    insta::assert_snapshot!(read);
}

#[test]
fn the_beta_is_read() {
    let read = all(include_str!("../../../../tests/frames/realtime-incoming-beta.jsonl"));
    assert!(!read.contains("Unknown"), "{read}");
    insta::assert_snapshot!(read);
}

#[test]
fn xai_is_read() {
    let read = all(include_str!("../../../../tests/frames/realtime-incoming-xai.jsonl"));
    assert!(!read.contains("Unknown"), "{read}");
    insta::assert_snapshot!(read);
}

#[test]
fn the_beta_is_written() {
    let both = Some(&["text", "audio"][..]);
    let greeting = json!({"purpose": "greeting"});
    let ours = [
        assistant_text_beta("Hello."),
        response_create("c9", None, both, false, None),
        response_create("c10", Some("Say \"hi\"."), both, false, Some(&greeting)),
    ];
    let value = |text: &str| serde_json::from_str::<Value>(text).expect(text);
    let reference = include_str!("../../../../tests/frames/realtime-outgoing-beta.jsonl");
    let theirs: Vec<Value> = reference.lines().map(value).collect();
    assert_eq!(ours.iter().map(|frame| value(frame)).collect::<Vec<_>>(), theirs);
}

#[test]
fn our_events_match_the_reference() {
    let parameters = json!({"type": "object", "properties": {"wish": {"type": "string"}}});
    let Value::Object(parameters) = parameters else { panic!("an object") };
    let form = Function { name: "submit_form", description: "The form.", parameters: &parameters };
    let ours = [
        append(&Chunk::from_base64("////".into()).unwrap()),
        cancel("resp_X"),
        truncate("item_A", 1480),
        delete("item_U"),
        function_output("call_1", r#"{"state":"shipped"}"#),
        user_text("Caller pressed 5."),
        assistant_text("Hello."),
        response_create("c9", None, None, false, None),
        response_create("c10", Some("Say \"hi\"."), None, false, None),
        response_create(
            "c11",
            Some("Say \"hi\"."),
            None,
            true,
            Some(&json!({"purpose": "greeting", "line": "hi"})),
        ),
        response_create_out_of_band("c12", "Say \"wait\"."),
        response_create_of_line("c13", "Say \"wait\".", "wait"),
        response_create_of_form("c14", "Fill it in.", form, 1_024, None),
        response_create_of_form("c15", "Fill it in.", form, 700, Some("low")),
        approval("mcpr_1", true, "x"),
        approval("mcpr_2", false, "Ask first."),
        user_audio(&Chunk::from_base64("////".into()).unwrap()),
        system_text("You said hello."),
        function_call("past1", "order_status", r#"{"id":7}"#),
    ];
    let value = |text: &str| serde_json::from_str::<Value>(text).expect(text);
    let reference = include_str!("../../../../tests/frames/realtime-outgoing.jsonl");
    assert_eq!(
        ours.iter().map(|frame| value(frame)).collect::<Vec<_>>(),
        reference.lines().map(value).collect::<Vec<_>>()
    );
}

#[test]
fn unknown_content_never_fails() {
    for (what, text, expected) in [
        ("an event", r#"{"type":"response.smell.delta","delta":{"x":[1]}}"#, Incoming::Unknown),
        ("a type in another event's field", r#"{"type":"x.y","item_id":7,"response":[]}"#, Incoming::Unknown),
        ("an error without a body", r#"{"type":"error"}"#, { Incoming::Error(ErrorBody::default()) }),
        (
            "an error with a code of another type",
            r#"{"type":"error","error":{"code":7,"param":["a"],"message":"x"}}"#,
            Incoming::Error(ErrorBody::default()),
        ),
        (
            "an unknown status and output",
            r#"{"type":"response.done","response":{"id":"r","status":"pondered","output":[{"type":"dream"}],"usage":7}}"#,
            Incoming::ResponseDone(ResponseDone {
                response: Some("r".into()),
                status: Status::Completed,
                error: None,
                calls: vec![],
                approvals: vec![],
                hosted: vec![],
                tokens: Tokens::default(),
            }),
        ),
    ] {
        assert_eq!(reading(text), Ok(expected), "{what}");
    }
    for bad in ["", "hello", "[]", r#"{"type":7}"#, r#"{"type":"response.created","response":7}"#] {
        assert_eq!(reading(bad), Err(BadEvent), "{bad}");
    }
}

#[test]
fn an_incomplete_function_call_is_ignored() {
    let cut = r#"{"type":"response.output_item.done","response_id":"r","item":{"type":"function_call","status":"incomplete","call_id":"c","name":"n","arguments":"{\"a"}}"#;
    assert_eq!(reading(cut), Ok(Incoming::Working));
}

#[test]
fn hosted_tools_are_read() {
    let frames = [
        r#"{"type":"conversation.item.added","item":{"id":"mcpl_1","type":"mcp_list_tools","server_label":"crm","tools":[]}}"#,
        r#"{"type":"mcp_list_tools.in_progress","item_id":"mcpl_1"}"#,
        r#"{"type":"mcp_list_tools.completed","item_id":"mcpl_1"}"#,
        r#"{"type":"conversation.item.done","item":{"id":"mcpl_1","type":"mcp_list_tools","server_label":"crm","tools":[{"name":"find","input_schema":{}},{"name":"make","description":"x","input_schema":{}}]}}"#,
        r#"{"type":"mcp_list_tools.failed","item_id":"mcpl_1"}"#,
        r#"{"type":"response.output_item.added","response_id":"r","item":{"id":"mcp_1","type":"mcp_call","server_label":"crm","name":"find","arguments":"","approval_request_id":null,"output":null,"error":null}}"#,
        r#"{"type":"conversation.item.added","item":{"id":"mcp_1","type":"mcp_call","server_label":"crm","name":"find","arguments":"","output":null,"error":null}}"#,
        r#"{"type":"response.mcp_call_arguments.done","item_id":"mcp_1","arguments":"{}"}"#,
        r#"{"type":"response.mcp_call.in_progress","item_id":"mcp_1","output_index":0}"#,
        r#"{"type":"response.mcp_call.completed","item_id":"mcp_1","output_index":0}"#,
        r#"{"type":"response.mcp_call.failed","item_id":"mcp_1","output_index":0}"#,
        r#"{"type":"response.output_item.done","response_id":"r","item":{"id":"mcp_1","type":"mcp_call","server_label":"crm","name":"find","arguments":"{}","output":"[]","error":null}}"#,
        r#"{"type":"conversation.item.done","item":{"id":"mcp_1","type":"mcp_call","server_label":"crm","name":"find","arguments":"{}","output":null,"error":{"type":"http_error","code":502}}}"#,
        r#"{"type":"response.output_item.done","response_id":"r","item":{"id":"mcpr_1","type":"mcp_approval_request","server_label":"crm","name":"make","arguments":"{\"a\":1}"}}"#,
        r#"{"type":"conversation.item.done","item":{"id":"mcpr_1","type":"mcp_approval_request","server_label":"crm","name":"make","arguments":"{}"}}"#,
        r#"{"type":"response.done","response":{"id":"r","status":"completed","output":[{"id":"mcp_1","type":"mcp_call","name":"find","output":null,"error":null},{"id":"mcp_2","type":"mcp_call","name":"find","output":"[]"},{"id":"mcpr_1","type":"mcp_approval_request","server_label":"crm","name":"make","arguments":"{}"}]}}"#,
    ];
    insta::assert_snapshot!(all(&frames.join("\n")));
}

#[test]
fn a_delta_is_borrowed_from_its_frame() {
    let frame = Bytes::from_static(
        br#"{"type":"response.output_audio.delta","response_id":"r","item_id":"i","delta":"////"}"#,
    );
    let Ok(Incoming::AudioDelta { chunk: Ok(chunk), .. }) = parse(&frame) else { panic!("a delta") };
    assert!(frame.as_ptr_range().contains(&chunk.as_str().as_ptr()));
}

#[test]
fn usage_is_read_by_kind() {
    // As in the reference; cached tokens are a part of the others.
    let whole = json!({"total_tokens": 253, "input_tokens": 210, "output_tokens": 43,
        "input_token_details": {"text_tokens": 120, "audio_tokens": 90, "image_tokens": 0, "cached_tokens": 64,
            "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0, "image_tokens": 0}},
        "output_token_details": {"text_tokens": 10, "audio_tokens": 33}});
    let tokens = usage::tokens(&whole);
    let expected = Tokens {
        text_in: 120,
        text_in_cached: 64,
        audio_in: 90,
        text_out: 10,
        audio_out: 33,
        ..Tokens::default()
    };
    assert_eq!(tokens, expected);
    assert_eq!((tokens.taken(), tokens.made()), (210, 43));
    // Without details, all of it is text; with half of them, the rest is.
    let bare = json!({"input_tokens": 210, "output_tokens": 43});
    assert_eq!(usage::tokens(&bare), Tokens { text_in: 210, text_out: 43, ..Tokens::default() });
    let half = json!({"input_tokens": 210, "output_tokens": 43,
        "input_token_details": {"audio_tokens": 90, "cached_tokens": 64}});
    let expected =
        Tokens { text_in: 120, text_in_cached: 64, audio_in: 90, text_out: 43, ..Tokens::default() };
    assert_eq!(usage::tokens(&half), expected);
    for nothing in [json!(null), json!(7), json!({"input_tokens": -1, "output_tokens": u64::MAX})] {
        assert_eq!(usage::tokens(&nothing), Tokens::default(), "{nothing}");
    }
}

#[test]
fn a_transcript_is_charged_by_tokens_or_by_time() {
    let frame = |usage: Value| {
        let kind = "conversation.item.input_audio_transcription.completed";
        let frame = json!({"type": kind, "item_id": "a", "transcript": "Hi.", "usage": usage});
        match reading(&frame.to_string()) {
            Ok(Incoming::HeardText { used, .. }) => used,
            other => panic!("{other:?}"),
        }
    };
    let by_tokens = json!({"type": "tokens", "total_tokens": 24, "input_tokens": 16,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 16}, "output_tokens": 8});
    let tokens = Tokens { audio_in: 16, text_out: 8, ..Tokens::default() };
    assert_eq!(frame(by_tokens), Some(Transcribed::Tokens { tokens }));
    let by_time = json!({"type": "duration", "seconds": 3.2});
    assert_eq!(frame(by_time), Some(Transcribed::Seconds { seconds: 3.2 }));
    for nothing in
        [json!(null), json!({"type": "duration"}), json!({"type": "duration", "seconds": -1}), json!(7)]
    {
        assert_eq!(frame(nothing.clone()), None, "{nothing}");
    }
}
