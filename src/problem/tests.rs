use super::catalogue::File;
use super::redact::mask_digits;
use super::*;

fn key(why: &str) -> File {
    File::Key { why: why.to_owned() }
}

fn syntax(text: &str) -> File {
    File::Syntax { why: text.to_owned(), fix: text.to_owned() }
}

#[test]
fn a_problem_points_at_its_place() {
    let source = Source::new("a.yaml", "one: 1\nvoice: nova\nnumbers: [\"+15550100001\"]\n");
    let span = Span { start: 14, len: 4, line: 2, column: 8 };
    let problem = source.problem(span, key("there is no voice `nova`"));
    assert_eq!(
        plain(std::slice::from_ref(&problem)),
        "a.yaml:2:8: error: there is no voice `nova`\n  2 | voice: nova\n    |        ^^^^\n"
    );
    let drawn = pretty(&[problem]);
    assert!(drawn.contains("voice: nova") && drawn.contains("a.yaml"), "{drawn}");
    assert!(!drawn.contains("15550100001"), "{drawn}");
}

#[test]
fn a_line_of_any_length_can_be_shown() {
    let text = format!("a: {}zebra\n", "x ".repeat(40_000));
    let source = Source::new("a.yaml", &text);
    let span = Span { start: 80_003, len: 5, line: 1, column: 80_004 };
    let drawn = pretty(&[source.problem(span, key("no zebra"))]);
    let space = " ".repeat(116);
    assert_eq!(
        drawn,
        format!(
            "a.yaml:1:80004: error: no zebra\n  1 | …{}zebra\n    | {space}^^^^^\n\n",
            "x ".repeat(58)[1..].to_owned()
        )
    );
}

#[test]
fn a_long_line_is_cut_around_the_place() {
    let shown = |before: usize, after: usize| {
        let text = format!("{}zebra{}\n", "é".repeat(before), "y".repeat(after));
        let span = Span { start: 2 * before, len: 5, line: 1, column: before + 1 };
        let plain = plain(&[Source::new("a.yaml", &text).problem(span, key("y"))]);
        let lines: Vec<String> = plain.lines().skip(1).map(|line| line.chars().skip(6).collect()).collect();
        let (line, pointer) = (lines[0].clone(), lines[1].clone());
        let at = pointer.chars().take_while(|c| *c == ' ').count();
        let under: String = line.chars().skip(at).take(pointer.chars().count() - at).collect();
        assert_eq!(under, "zebra", "{plain}");
        (line.chars().count(), line.starts_with('…'), line.ends_with('…'))
    };
    assert_eq!(shown(100, 55), (160, false, false));
    assert_eq!(shown(10, 300), (121, false, true));
    assert_eq!(shown(300, 300), (122, true, true));
    assert_eq!(shown(300, 10), (121, true, false));
    assert_eq!(shown(300, 0), (121, true, false));
}

#[test]
fn phone_numbers_are_masked_in_place() {
    assert_eq!(mask_digits("x +15550100001 y"), "x +1555*****01 y");
    assert_eq!(mask_digits("é +1 555-010 0001."), "é +1 555-*** **01.");
    assert_eq!(mask_digits("gpt-realtime-2025-08-28"), "gpt-realtime-2025-08-28");
    assert_eq!(mask_digits("1 (555) 010-0001"), "1 (555) ***-**01");
    assert_eq!(mask_digits("12345678 - 1"), "123***78 - 1");
    assert_eq!(mask_digits("2026-12-24 18:30"), "2026-**-** 18:30");
    assert_eq!(mask_digits("port 5050"), "port 5050");
    assert_eq!(shown("+15550100001"), "+1555*****01");
    for (number, masked) in [
        ("+1_555_010_0001", "+1_555_***_**01"),
        ("+1/555/010/0001", "+1/555/***/**01"),
        ("+1\u{a0}555\u{a0}010\u{a0}0001", "+1\u{a0}555\u{a0}***\u{a0}**01"),
        ("1\u{2011}555\u{2011}010\u{2011}0001", "1\u{2011}555\u{2011}***\u{2011}**01"),
        ("+1555O1OOOO1", "+1555*****O1"),
        ("+１５５５０１００００１", "+１５５５***************０１"),
        ("+١٥٥٥٠١٠٠٠٠١", "+١٥٥٥**********٠١"),
        ("+1 555 of 2", "+1 555 of 2"),
    ] {
        assert_eq!(mask_digits(number), masked);
        assert_eq!(mask_digits(masked), masked);
    }
}

#[test]
fn a_quoted_name_cannot_add_lines_or_control_the_terminal() {
    let source = Source::new("+15550100008.yaml", "x: 1\n");
    let span = Span { start: 0, len: 1, line: 1, column: 1 };
    let name = "x\nforged: \u{1b}[31m+15550100001";
    let problem = source.problem(span, syntax(name)).also(source.place(span), "first written here");
    let about = Problem::file(&format!("{name}.yaml"), key(name));
    let problems = [problem, about];
    let lines = problems.iter().map(Problem::line).collect::<Vec<_>>().join(" ");
    assert!(!lines.contains('\n'), "{lines}");
    for text in [plain(&problems), json(&problems), github(&problems), lines] {
        assert!(!text.contains("\nforged") && !text.contains("\\nforged"), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains("u001b"), "{text}");
    }
    // Programs look for the file.
    let (for_people, for_programs) =
        ([plain(&problems), problems[0].line()], [json(&problems), github(&problems)]);
    assert!(for_people.iter().all(|text| !text.contains("01000")), "{for_people:?}");
    let named = |text: &String| {
        ["\"file\": \"+15550100008.yaml\"", "file=+15550100008.yaml,"].iter().any(|name| text.contains(name))
    };
    assert!(for_programs.iter().all(named), "{for_programs:?}");
    let drawn = pretty(&problems);
    assert!(!drawn.contains("\nforged") && !drawn.contains("01000"), "{drawn}");
}

#[test]
fn a_name_to_copy_is_whole() {
    let name = "get_the_opening_hours_of_2025550143_and_of_every_other_branch_in_town";
    assert_eq!(whole(name), name);
    assert_eq!(whole("a\nb\u{1b}"), "a b?");
    assert_eq!(whole(&"é".repeat(200)).chars().count(), 129);
}

#[test]
fn a_file_cannot_control_the_terminal() {
    let text = "a\u{1b}[2J\u{9b}\u{7f}b\u{202e}\u{200b}\u{feff}\té\n";
    assert_eq!(masked(text), "a?[2J·?b␣␣␣\té\n");
    assert_eq!(masked(text).len(), text.len());
    assert!(!format!("{:?}", shown(text)).contains("\\u"));
    let source = Source::new("a.yaml", text);
    let problem = source.problem(Span { start: 0, len: 1, line: 1, column: 1 }, key("y"));
    assert!(!plain(std::slice::from_ref(&problem)).contains('\u{1b}'));
}

#[test]
fn codes_are_words_separated_by_a_dot() {
    let is_word = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    for (code, _) in catalogue::codes() {
        // The codes for the values of any key have no area.
        assert!(code.split('.').count() <= 2 && code.split('.').all(is_word), "{code}");
    }
}

#[test]
fn passwords_in_the_words_of_a_program_are_masked() {
    for (text, shown) in [
        ("password=hunter2 and more", "password=******* and more"),
        ("Authorization: Bearer abcdefghijkl", "Authorization: Bearer ************"),
        (
            "https://u:secretpw@example.com/?api_key=zzz&x=1",
            "https://u:********@example.com/?api_key=***&x=1",
        ),
        (r#"{"access_token": "a1b2c3d4e5"}"#, r#"{"access_token": "**********"}"#),
        ("invalid token: expired", "invalid token: expired"),
        ("set OPENAI_API_KEY=sk-… in `.env`", "set OPENAI_API_KEY=sk-… in `.env`"),
        ("set TODOIST_TOKEN first", "set TODOIST_TOKEN first"),
        ("http://example.com:8080/x", "http://example.com:8080/x"),
    ] {
        assert_eq!(super::masked(text), shown);
    }
}
