//! What a fresh session learns of a conversation.

use proptest::prelude::*;

use super::*;

fn item(id: &str) -> ItemId {
    ItemId::from(id)
}

fn private(text: &str) -> Private {
    Private::from(text.to_owned())
}

fn ulaw(ms: usize) -> Chunk {
    Chunk::from_ulaw(&vec![0x20; ms * BYTES_PER_MS])
}

impl Conversation {
    fn caller(&mut self, id: &str, text: &str) {
        self.caller_began(&item(id));
        self.caller_stopped();
        self.said(Who::Caller, &item(id), &private(text));
    }

    /// An item of this length, heard as far as `heard_ms`.
    fn assistant_says(&mut self, id: &str, text: &str, ms: u64, heard_ms: u64) {
        self.assistant_audio(&item(id), ms * BYTES_PER_MS as u64);
        self.said(Who::Assistant, &item(id), &private(text));
        self.assistant_heard(&item(id), heard_ms);
    }

    fn calls(&mut self, id: &str) {
        self.tool_called(&id.into(), "find", &private("{\"a\":1}"));
    }
}

/// The replay in short, one turn a line.
fn written(turns: &[Turn]) -> String {
    let line = |turn: &Turn| match turn {
        Turn::Caller(text) => format!("caller: {}", text.expose()),
        Turn::CallerAudio(audio) => format!("caller: {audio:?}"),
        Turn::Assistant(text) => format!("assistant: {}", text.expose()),
        Turn::Tool { id, name, arguments, output } => {
            let output = output.as_ref().map_or("…", Private::expose);
            format!("{id}: {name} {} → {output}", arguments.expose())
        }
        Turn::Note(text) => format!("note: {}", text.expose()),
        Turn::History(text) => format!("history: {}", text.expose()),
    };
    turns.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn assert_replay(conversation: &Conversation, expected: &[&str]) {
    assert_eq!(written(&conversation.replay()), expected.join("\n"));
}

#[test]
fn turns_are_in_the_order_in_which_they_were_said() {
    let mut conversation = Conversation::default();
    conversation.told(&Line::AssistantSaid(private("Hello.")));
    conversation.caller_began(&item("u1"));
    conversation.caller_stopped();
    conversation.calls("c1");
    conversation.assistant_audio(&item("a1"), 800);
    conversation.told(&Line::Pressed("12#".to_owned()));
    conversation.calls("c2");
    // What was said becomes known later.
    conversation.tool_answered(&"c1".into(), &private("found"));
    conversation.assistant_heard(&item("a1"), 100);
    conversation.said(Who::Assistant, &item("a1"), &private("One moment."));
    conversation.said(Who::Caller, &item("u1"), &private("Is it open?"));
    let missed = Line::TransferFailed { target: "desk".to_owned(), why: TransferFailure::Busy };
    conversation.told(&missed);
    assert_replay(
        &conversation,
        &[
            "assistant: Hello.",
            "caller: Is it open?",
            "c1: find {\"a\":1} → found",
            "assistant: One moment.",
            "note: The caller pressed 1 2 #.",
            "c2: find {\"a\":1} → …",
            "note: The call was passed on to desk, but the line was busy. The caller is back with you.",
        ],
    );
}

#[test]
fn an_assistants_turn_is_cut_to_what_was_heard() {
    let text = "We are open until six, and on Saturdays until noon.";
    for (heard_ms, heard) in [
        (0, ""),
        (100, ""),
        (1_000, "We are"),
        (2_500, "We are open until six,"),
        (4_999, "We are open until six, and on Saturdays until"),
        (5_000, text),
        (6_000, text),
    ] {
        let mut conversation = Conversation::default();
        conversation.assistant_says("a", text, 5_000, heard_ms);
        let expected = if heard.is_empty() { String::new() } else { format!("assistant: {heard}") };
        assert_replay(&conversation, &[&expected]);
    }
}

#[test]
fn audio_that_was_never_played_counts_as_unheard() {
    let mut conversation = Conversation::default();
    conversation.assistant_says("a", "one two three four", 1_000, 500);
    conversation.assistant_audio(&item("a"), 1_000 * BYTES_PER_MS as u64);
    assert_replay(&conversation, &["assistant: one"]);
}

#[test]
fn words_of_an_answer_that_broke_off_are_known() {
    let mut conversation = Conversation::default();
    for words in ["We are ", "open un", "til"] {
        conversation.assistant_words(&item("a"), words);
    }
    conversation.assistant_audio(&item("a"), 8_000);
    conversation.assistant_heard(&item("a"), 1_000);
    assert_replay(&conversation, &["assistant: We are open"]);
    // The last figure counts: the phone was cleared.
    conversation.assistant_heard(&item("a"), 600);
    assert_replay(&conversation, &["assistant: We are"]);
    conversation.said(Who::Assistant, &item("a"), &private("We are open until"));
    conversation.assistant_words(&item("a"), " late");
    conversation.assistant_heard(&item("a"), 1_000);
    assert_replay(&conversation, &["assistant: We are open until"]);
}

#[test]
fn a_turn_without_a_transcript_is_audio() {
    let mut conversation = Conversation::default();
    conversation.caller_audio(&ulaw(2_000), false);
    conversation.caller_audio(&ulaw(300), true);
    conversation.caller_began(&item("u1"));
    conversation.caller_audio(&ulaw(700), true);
    conversation.caller_stopped();
    conversation.caller_audio(&ulaw(5_000), false);
    assert_replay(&conversation, &["caller: 1500ms"]);
    conversation.assistant_says("a1", "Yes.", 500, 500);
    conversation.caller_audio(&ulaw(200), true);
    conversation.caller_began(&item("u2"));
    assert_replay(&conversation, &["caller: 1500ms", "assistant: Yes.", "caller: 700ms"]);
    conversation.said(Who::Caller, &item("u1"), &private("Is it open?"));
    assert_replay(&conversation, &["caller: Is it open?", "assistant: Yes.", "caller: 700ms"]);
    assert_eq!(conversation.callers().next().unwrap().audio.0.capacity(), 0, "its audio is freed");
}

#[test]
fn audio_is_what_the_caller_said() {
    let mut conversation = Conversation::default();
    let said: Vec<u8> = (0..2_000).map(|n| n as u8).collect();
    for part in said.chunks(160) {
        conversation.caller_audio(&Chunk::from_ulaw(part), true);
    }
    assert_eq!(conversation.replay(), [Turn::CallerAudio(Chunk::from_ulaw(&said))]);
}

#[test]
fn what_the_model_does_not_notice_is_one_turn() {
    let mut conversation = Conversation::default();
    conversation.caller_audio(&ulaw(400), true);
    conversation.caller_audio(&ulaw(100), false);
    conversation.caller_audio(&ulaw(400), true);
    assert_replay(&conversation, &["caller: 900ms"]);
    conversation.assistant_says("a1", "Are you there?", 500, 500);
    conversation.caller_audio(&ulaw(400), true);
    assert_replay(&conversation, &["caller: 900ms", "assistant: Are you there?", "caller: 400ms"]);
    // It notices, and hears words: before, there were none.
    conversation.caller_began(&item("u1"));
    conversation.said(Who::Caller, &item("u1"), &private("Yes."));
    assert_replay(&conversation, &["assistant: Are you there?", "caller: Yes."]);
}

#[test]
fn a_turn_that_we_ended_is_named_by_its_transcript() {
    let mut conversation = Conversation::default();
    conversation.caller_audio(&ulaw(400), true);
    conversation.assistant_says("a1", "Yes.", 500, 500);
    conversation.said(Who::Caller, &item("u1"), &private("Is it open?"));
    assert_replay(&conversation, &["caller: Is it open?", "assistant: Yes."]);
}

#[test]
fn a_turn_in_which_nothing_was_said_vanishes() {
    let mut conversation = Conversation::default();
    conversation.caller_audio(&ulaw(400), true);
    conversation.caller("u1", " ");
    assert_replay(&conversation, &[""]);
}

#[test]
fn ids_may_come_again_in_another_session() {
    let mut conversation = Conversation::default();
    conversation.caller("u1", "Hello?");
    conversation.assistant_says("a1", "Good morning.", 1_000, 500);
    conversation.caller_audio(&ulaw(400), true);
    conversation.caller_began(&item("u2"));
    conversation.session_changed();
    // The phone still plays what it has of the earlier one.
    conversation.assistant_heard(&item("a1"), 1_000);
    conversation.caller_audio(&ulaw(400), true);
    conversation.caller_began(&item("u1"));
    conversation.said(Who::Caller, &item("u1"), &private("Are you open?"));
    conversation.assistant_says("a1", "Yes.", 500, 500);
    assert_replay(
        &conversation,
        &[
            "caller: Hello?",
            "assistant: Good morning.",
            "caller: 400ms",
            "caller: Are you open?",
            "assistant: Yes.",
        ],
    );
}

#[test]
fn a_history_is_one_text_and_what_has_no_words_follows() {
    let mut conversation = Conversation::default();
    assert_eq!(conversation.replay_as_history(), []);
    conversation.caller("u1", "Is it open?");
    conversation.calls("c1");
    conversation.assistant_says("a1", "One moment.", 500, 500);
    conversation.tool_answered(&"c1".into(), &private("found"));
    conversation.calls("c2");
    conversation.told(&Line::Pressed("1".to_owned()));
    conversation.caller_audio(&ulaw(400), true);
    let turns = conversation.replay_as_history();
    let [Turn::History(text), Turn::Tool { output: None, .. }, Turn::CallerAudio(_)] = &turns[..] else {
        panic!("{turns:?}")
    };
    let lines: Vec<&str> = text.expose().lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "Caller: Is it open?",
            "You called find({\"a\":1}): found",
            "You: One moment.",
            "The caller pressed 1.",
        ]
    );
}

#[test]
fn a_large_output_does_not_replace_the_conversation() {
    let mut conversation = Conversation::default();
    conversation.caller("u1", "Is it open?");
    conversation.tool_called(&"c1".into(), "find", &private(&"x".repeat(20_000)));
    conversation.tool_answered(&"c1".into(), &private(&"ä".repeat(20_000)));
    let turns = conversation.replay();
    let [Turn::Caller(_), Turn::Tool { arguments, output: Some(output), .. }] = &turns[..] else {
        panic!("{turns:?}")
    };
    assert_eq!(arguments.expose(), "{}");
    assert!((4_000..=MAX_OUTPUT).contains(&output.expose().len()));
}

#[test]
fn the_oldest_turns_leave_first() {
    let mut conversation = Conversation::default();
    for n in 0..49 {
        conversation.caller(&format!("u{n}"), "Hello?");
        conversation.assistant_says(&format!("a{n}"), "Hello.", 500, 500);
    }
    conversation.calls("c1");
    assert_eq!(conversation.replay().len(), 99);
    conversation.calls("c2");
    let turns = conversation.replay();
    assert_eq!(turns.len(), 98, "a pair takes the room of two");
    assert!(matches!(turns[0], Turn::Caller(_)));
    conversation.said(Who::Caller, &item("u48"), &private(&"x".repeat(20_000)));
    assert!(text_of(&conversation.replay()) <= MAX_TEXT);
}

#[test]
fn a_second_of_audio_takes_no_more_memory_than_it_is_long() {
    let mut conversation = Conversation::default();
    let frames = |conversation: &mut Conversation, seconds: usize| {
        for _ in 0..50 * seconds {
            conversation.caller_audio(&ulaw(20), true);
            for Audio(audio) in conversation.callers().map(|turn| &turn.audio) {
                let (kept, taken) = (audio.len(), audio.capacity());
                assert!(taken <= kept + 2 * ROOM, "{kept} bytes take {taken}");
            }
        }
    };
    for (n, seconds) in [5, 8, 20, 3].into_iter().enumerate() {
        frames(&mut conversation, seconds);
        conversation.caller_began(&item(&format!("u{n}")));
        conversation.caller_stopped();
    }
    assert_eq!(audio_of(&conversation.replay()), MAX_AUDIO);
}

/// How many bytes of text these turns have.
fn text_of(turns: &[Turn]) -> usize {
    let text = |turn: &Turn| match turn {
        Turn::Caller(text) | Turn::Assistant(text) | Turn::Note(text) => text.expose().len(),
        Turn::Tool { arguments, output, .. } => {
            arguments.expose().len() + output.as_ref().map_or(0, |output| output.expose().len())
        }
        Turn::CallerAudio(_) | Turn::History(_) => 0,
    };
    turns.iter().map(text).sum()
}

fn audio_of(turns: &[Turn]) -> usize {
    let audio = |turn: &Turn| if let Turn::CallerAudio(audio) = turn { audio.bytes() as usize } else { 0 };
    turns.iter().map(audio).sum()
}

/// What happens. The ids are few, so that they collide and come again.
#[derive(Debug, Clone)]
enum Step {
    Audio(usize, bool),
    Began(u8),
    Stopped,
    SessionChanged,
    AssistantAudio(u8, u64),
    Words(u8, String),
    Heard(u8, u64),
    Said(bool, u8, String),
    Called(u8, String),
    Answered(u8, String),
    Pressed(usize),
}

impl Step {
    fn happen(&self, conversation: &mut Conversation) {
        let item = |n: &u8| ItemId::from(&*n.to_string());
        let tool = |n: &u8| ToolCallId::from(&*n.to_string());
        match self {
            Self::Audio(ms, speaks) => conversation.caller_audio(&ulaw(*ms), *speaks),
            Self::Began(id) => conversation.caller_began(&item(id)),
            Self::Stopped => conversation.caller_stopped(),
            Self::SessionChanged => conversation.session_changed(),
            Self::AssistantAudio(id, bytes) => conversation.assistant_audio(&item(id), *bytes),
            Self::Words(id, words) => conversation.assistant_words(&item(id), words),
            Self::Heard(id, ms) => conversation.assistant_heard(&item(id), *ms),
            Self::Said(caller, id, text) => {
                let who = if *caller { Who::Caller } else { Who::Assistant };
                conversation.said(who, &item(id), &private(text));
            }
            Self::Called(id, text) => conversation.tool_called(&tool(id), "find", &private(text)),
            Self::Answered(id, text) => conversation.tool_answered(&tool(id), &private(text)),
            Self::Pressed(keys) => conversation.told(&Line::Pressed("1".repeat(*keys))),
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 0..6u8;
    let text = || {
        prop_oneof![
            9 => proptest::sample::select(vec!["", "yes", "a few words more", "é ü €"]).prop_map(str::to_owned),
            1 => (0..20_000usize).prop_map(|length| "long ".repeat(length / 5)),
        ]
    };
    prop_oneof![
        (0..1_500usize, any::<bool>()).prop_map(|(ms, speaks)| Step::Audio(ms, speaks)),
        id().prop_map(Step::Began),
        Just(Step::Stopped),
        Just(Step::SessionChanged),
        (id(), 0..30_000u64).prop_map(|(id, bytes)| Step::AssistantAudio(id, bytes)),
        (id(), text()).prop_map(|(id, text)| Step::Words(id, text)),
        (id(), 0..5_000u64).prop_map(|(id, ms)| Step::Heard(id, ms)),
        (any::<bool>(), id(), text()).prop_map(|(caller, id, text)| Step::Said(caller, id, text)),
        (id(), text()).prop_map(|(id, text)| Step::Called(id, text)),
        (id(), text()).prop_map(|(id, text)| Step::Answered(id, text)),
        (0..32usize).prop_map(Step::Pressed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever happens, a replay stays within its limits, and so does what is kept.
    #[test]
    fn a_replay_is_bounded(steps in proptest::collection::vec(step(), 0..300)) {
        let mut conversation = Conversation::default();
        for step in steps {
            step.happen(&mut conversation);
            prop_assert!(conversation.entries.iter().map(Entry::items).sum::<usize>() <= MAX_ITEMS);
            prop_assert!(conversation.entries.iter().map(Entry::text).sum::<usize>() <= MAX_TEXT);
            prop_assert!(conversation.callers().map(|turn| turn.audio.0.len()).sum::<usize>() <= MAX_AUDIO);
            prop_assert!(conversation.earlier <= conversation.entries.len());
        }
        let turns = conversation.replay();
        let pairs = turns.iter().filter(|turn| matches!(turn, Turn::Tool { .. })).count();
        prop_assert!(turns.len() + pairs <= MAX_ITEMS);
        prop_assert!(text_of(&turns) <= MAX_TEXT);
        prop_assert!(audio_of(&turns) <= MAX_AUDIO);
        let printed = format!("{conversation:?}");
        prop_assert!(printed.len() < 20_000);
    }
}

#[test]
fn a_word_that_was_cut_was_not_heard() {
    for (heard_ms, expected) in [
        (0, ""),
        (100, ""),
        (215, "One"),
        (500, "One two"),
        (999, "One two"),
        (1_000, "One two three."),
        (u64::MAX, "One two three."),
    ] {
        assert_eq!(heard_words("One two three.", heard_ms, 1_000), expected, "{heard_ms} ms");
    }
    assert_eq!(heard_words("Grüß Gott", 500, 900), "Grüß");
    assert_eq!(heard_words("", 1, 2), "");
    assert_eq!(heard_words("One", 0, 0), "One");
}
