use super::*;
use proptest::prelude::*;

fn dump(text: &str) -> String {
    let environment =
        BTreeMap::from([("NAME".to_owned(), "value".to_owned()), ("EMPTY".to_owned(), String::new())]);
    let document = read(&SourceFile::new("t.yaml", text), &environment);
    let mut out = String::new();
    if let Some(root) = &document.root {
        show(root, 0, &mut out);
    }
    out.push_str(&problem::plain(&document.problems));
    out
}

fn show(node: &Node, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let at = node.span;
    match &node.kind {
        Kind::Scalar(s) => out.push_str(&format!(
            "{indent}{}:{}+{} {:?} {:?} {}\n",
            at.line,
            at.column,
            at.len,
            s.style,
            s.text,
            node.what()
        )),
        Kind::Seq(items) => {
            out.push_str(&format!("{indent}seq\n"));
            items.iter().for_each(|item| show(item, depth + 1, out));
        }
        Kind::Map(entries) => {
            out.push_str(&format!("{indent}map\n"));
            for (key, value) in entries {
                let at = key.span;
                out.push_str(&format!("{indent}  {}:{}+{} {}\n", at.line, at.column, at.len, key.name));
                show(value, depth + 2, out);
            }
        }
    }
}

#[test]
fn every_value_knows_its_place_and_style() {
    insta::assert_snapshot!(dump(
        "a: 1\nb: \"two\"\nn: +15550100001\nblock: |\n  line {{ x }}\n  more\nfold: >-\n  x\n  y\nempty:\n\
             a: twice\nseq: [x, 'é y', ~]\nanchor: &q hello\nalias: *q\ntag: !!str 12\n+15550100002: Anna\nbig: 99999999999999999999999\n"
    ));
}

#[test]
fn names_are_replaced_before_types_are_judged() {
    insta::assert_snapshot!(dump(
        "a: ${NAME}\nb: \"x ${NAME} y\"\nc: ${NONE:-0.8}\nd: \"${NONE:-0.8}\"\ne: '$${NAME} $5'\n\
             f: \"${EMPTY:-}\"\ng: ${EMPTY}\nh: \"${NONE:-hi {{ now }} there}\"\ni: ${not a name}\nj: \"${open\"\n\
             k: \"${NONE:-${NAME}}\"\n"
    ));
}

#[test]
fn what_cannot_be_read_is_said() {
    for (name, text) in [
        ("tab", "a:\n\tb: 1\n"),
        ("template", "a: {{ x }}\n"),
        ("colon", "a: b: c\n"),
        ("bracket", "a: [1, 2\n"),
        ("two documents", "a: 1\n---\nb: 2\n"),
        (
            "bomb",
            "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n",
        ),
        ("deep", &"[".repeat(5000)),
    ] {
        insta::assert_snapshot!(name, dump(text));
    }
}

#[test]
fn marks_and_line_ends_do_not_matter() {
    assert_eq!(dump("\u{feff}a: 1\nb: 2\n"), dump("a: 1\nb: 2\n"));
    assert!(
        dump("a: 1\r\nb: |\r\n  x\r\n").contains("Literal \"x\\n\""),
        "{}",
        dump("a: 1\r\nb: |\r\n  x\r\n")
    );
    assert_eq!(dump(""), "1:1+0 Plain \"\" empty\n");
    assert_eq!(dump("# only\n\n"), "1:1+0 Plain \"\" empty\n");
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let document = read(&SourceFile::new("t.yaml", bytes), &BTreeMap::new());
        problem::pretty(&document.problems);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "([a-c]|[:\\-\\[\\]{}&*!|>'\"%@#$\\\\?,~<]|\\$\\{|: |- |\n|\n  |\t|é){0,60}") {
        let document = read(&SourceFile::new("t.yaml", text), &BTreeMap::new());
        problem::pretty(&document.problems);
        problem::plain(&document.problems);
    }
}

#[test]
fn what_came_from_outside_is_told_piece_by_piece() {
    let environment = BTreeMap::from([
        ("USER".to_owned(), "alice".to_owned()),
        ("PASS".to_owned(), "hunter22".to_owned()),
        ("EMPTY".to_owned(), String::new()),
    ]);
    let inserted = |text: &str| {
        let document = read(&SourceFile::new("t.yaml", format!("a: \"{text}\"\n")), &environment);
        let Some(Node { kind: Kind::Map(entries), .. }) = &document.root else { panic!("{text}") };
        let found = entries[0].1.scalar().unwrap().inserted();
        found.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    for (text, expected) in [
        ("plain", vec![]),
        ("${PASS}", vec!["hunter22"]),
        ("--login=${USER}:${PASS}!", vec!["alice:hunter22", "alice", "hunter22"]),
        // Nobody can tell where one ends.
        ("${USER}${PASS}", vec!["alicehunter22"]),
        ("x${EMPTY:-}:${PASS:-other}", vec![":hunter22", "", "hunter22"]),
        ("${NONE:-a-default}/${PASS}", vec!["a-default/hunter22", "a-default", "hunter22"]),
    ] {
        assert_eq!(inserted(text), expected, "{text}");
    }
}
