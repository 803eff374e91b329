//! What a template uses, found without running it, so also in branches that no sample takes.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::ops::Range;

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind};

/// Tokens in one expression or statement. `minijinja` compiles a chain such as `1+1+1` by recursion without a limit: a
/// very long one would overflow the stack and end the program.
const LONGEST: usize = 1_000;
/// Uses of `elif`, limited for the same reason.
const MOST_BRANCHES: usize = 200;

/// A filter (`| name`) or a test (`is name`) in a template.
#[derive(Debug, PartialEq)]
pub struct Use<'a> {
    pub name: &'a str,
    pub kind: UseKind,
    /// The name's bytes in the template.
    pub at: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UseKind {
    Filter,
    Test,
}

/// The names whose values differ from call to call.
const LIVE: [&str; 5] = ["caller", "called", "call", "now", "arguments"];

/// `{% word … %}`.
struct Tag<'a> {
    word: &'a str,
    /// Its bytes in the template.
    at: Range<usize>,
    /// Its tokens, from the word on.
    tokens: Range<usize>,
}

/// The tokens of a template, up to its first mistake, which is a problem of its own.
pub struct Tokens<'a> {
    template: &'a str,
    /// Made on demand: most templates only use names.
    all: OnceCell<Vec<(Token<'a>, Range<usize>)>>,
}

impl<'a> Tokens<'a> {
    pub fn new(template: &'a str) -> Tokens<'a> {
        Tokens { template, all: OnceCell::new() }
    }

    fn all(&self) -> &[(Token<'a>, Range<usize>)] {
        self.all.get_or_init(|| {
            let tokens = tokenize(self.template, false, SyntaxConfig::default()).map_while(Result::ok);
            tokens.map(|(token, at)| (token, at.start_offset as usize..at.end_offset as usize)).collect()
        })
    }

    /// Whether a quick look rules out filters, tests and long expressions: the text between each `{` and the next `}` is
    /// short, closed, and has no trace of one.
    fn is_plain(&self) -> bool {
        if self.template.contains("{#") || self.template.matches("elif").count() > MOST_BRANCHES {
            return false;
        }
        let mut tags = self.template.split('{');
        tags.next();
        // After a brace that opens a tag, up to the next brace of any kind.
        tags.all(|rest| {
            let inner = rest.split('}').next().unwrap_or_default();
            let trace = ["|", "\"", "'", "is", "filter", "raw"].iter().any(|trace| inner.contains(trace));
            !trace && inner.len() <= LONGEST && (inner.len() < rest.len() || rest.is_empty())
        })
    }

    /// Where an expression is too long, see [`LONGEST`]. Call it before parsing.
    pub fn too_long(&self) -> Option<Range<usize>> {
        if self.is_plain() {
            return None;
        }
        let tokens = self.all();
        let (mut length, mut branches) = (0, 0);
        for (at, (token, place)) in tokens.iter().enumerate() {
            length = match token {
                Token::VariableStart | Token::BlockStart => 0,
                _ => length + 1,
            };
            let starts = at > 0 && matches!(tokens[at - 1].0, Token::BlockStart);
            branches += usize::from(starts && matches!(token, Token::Ident("elif")));
            if length > LONGEST || branches > MOST_BRANCHES {
                return Some(place.clone());
            }
        }
        None
    }

    /// The same template with every branch taken, one after the other, if the caller or the time decides. `None` if they
    /// decide nothing. Lines keep their numbers.
    pub fn every_branch(&self) -> Option<String> {
        if !["if", "elif"].iter().any(|word| self.template.contains(word)) {
            return None;
        }
        let tags = self.tags();
        let chains = self.chains(&tags);
        if !chains.contains(&Some(true)) {
            return None;
        }
        let mut out = String::with_capacity(self.template.len() + 64);
        let mut copied = 0;
        for (tag, _) in tags.iter().zip(chains).filter(|(_, chain)| *chain == Some(true)) {
            out.push_str(&self.template[copied..tag.at.start]);
            copied = tag.at.end;
            match tag.word {
                "if" => out.push_str("{% if true %}"),
                "endif" => out.push_str("{% endif %}"),
                _ => out.push_str("{% endif %}{% if true %}"),
            }
            let lines = self.template[tag.at.clone()].matches('\n').count();
            out.push_str(&"\n".repeat(lines));
        }
        out.push_str(&self.template[copied..]);
        Some(out)
    }

    /// For each tag of a choice, whether the caller or the time decides it. `None` for other tags.
    fn chains(&self, tags: &[Tag<'_>]) -> Vec<Option<bool>> {
        let tokens = self.all();
        let mut live: BTreeSet<&str> = LIVE.into();
        let mut chains: Vec<Option<usize>> = Vec::new();
        let mut decided: Vec<bool> = Vec::new();
        // The open choices and loops; a loop has no number.
        let mut open: Vec<Option<usize>> = Vec::new();
        for tag in tags {
            let inner = &tokens[tag.tokens.clone()];
            let is_live = inner.iter().enumerate().any(|(at, (token, _))| {
                let part = at > 0 && matches!(inner[at - 1].0, Token::Dot);
                matches!(token, Token::Ident(name) if !part && live.contains(name))
            });
            match tag.word {
                "if" => {
                    open.push(Some(decided.len()));
                    decided.push(false);
                }
                "for" => open.push(None),
                _ => {}
            }
            let chain = match tag.word {
                "if" | "elif" | "else" | "endif" => open.last().copied().flatten(),
                _ => None,
            };
            if let Some(chain) = chain
                && is_live
            {
                decided[chain] = true;
            }
            if let ("set", Some((Token::Ident(name), _))) = (tag.word, inner.get(1))
                && is_live
            {
                live.insert(name);
            }
            if matches!(tag.word, "endif" | "endfor") {
                open.pop();
            }
            chains.push(chain);
        }
        chains.into_iter().map(|chain| chain.map(|chain| decided[chain])).collect()
    }

    /// Every `{% … %}`.
    fn tags(&self) -> Vec<Tag<'a>> {
        let tokens = self.all();
        let mut tags = Vec::new();
        let mut start = None;
        for (at, (token, place)) in tokens.iter().enumerate() {
            match token {
                Token::BlockStart => start = Some((at, place.start)),
                Token::BlockEnd => {
                    if let Some((first, from)) = start.take()
                        && let Some((Token::Ident(word), _)) = tokens.get(first + 1)
                    {
                        tags.push(Tag { word, at: from..place.end, tokens: first + 1..at });
                    }
                }
                _ => {}
            }
        }
        tags
    }

    /// Paths with parts in brackets, such as `clinic["name"]`.
    pub fn paths_in_brackets(&self) -> Vec<(Vec<&str>, Range<usize>)> {
        if !self.template.contains('[') {
            return Vec::new();
        }
        let tokens = self.all();
        let mut found = Vec::new();
        for start in 0..tokens.len() {
            let (Token::Ident(root), place) = &tokens[start] else { continue };
            if start > 0 && matches!(tokens[start - 1].0, Token::Dot | Token::Pipe) {
                continue;
            }
            let (mut path, mut last, mut next, mut brackets) = (vec![*root], place.clone(), start + 1, false);
            loop {
                match (tokens.get(next), tokens.get(next + 1), tokens.get(next + 2)) {
                    (Some((Token::Dot, _)), Some((Token::Ident(part), place)), _) => {
                        path.push(part);
                        last = place.clone();
                        next += 2;
                    }
                    (
                        Some((Token::BracketOpen, _)),
                        Some((Token::Str(part), place)),
                        Some((Token::BracketClose, _)),
                    ) => {
                        path.push(part);
                        last = place.clone();
                        next += 3;
                        brackets = true;
                    }
                    _ => break,
                }
            }
            // What is called is a method, not a part.
            let called = matches!(tokens.get(next), Some((Token::ParenOpen, _)));
            if brackets && !called {
                found.push((path, last));
            }
        }
        found
    }

    /// The expression of a template that is one `{{ … }}` and nothing else.
    pub fn expression(&self) -> Option<&'a str> {
        let tokens = self.all();
        let (Some((Token::VariableStart, start)), Some((Token::VariableEnd, end))) =
            (tokens.first(), tokens.last())
        else {
            return None;
        };
        let one = tokens.iter().filter(|(token, _)| matches!(token, Token::VariableStart)).count() == 1;
        let whole = start.start == 0 && end.end == self.template.len();
        self.template.get(start.end..end.start).filter(|_| one && whole)
    }

    /// The filters and tests that the environment does not have.
    pub fn unknown_uses(&self, environment: &Environment<'_>) -> Vec<Use<'a>> {
        if self.is_plain() {
            return Vec::new();
        }
        let mut known: BTreeSet<(UseKind, &str)> = BTreeSet::new();
        let mut found = uses(self.all());
        found.retain(|used| {
            if known.contains(&(used.kind, used.name)) {
                return false;
            }
            let (probe, unknown) = match used.kind {
                UseKind::Filter => (format!("0|{}", used.name), ErrorKind::UnknownFilter),
                UseKind::Test => (format!("0 is {}", used.name), ErrorKind::UnknownTest),
            };
            let tried = environment.compile_expression(&probe).and_then(|probe| probe.eval(()));
            let is_unknown = tried.is_err_and(|error| error.kind() == unknown);
            if !is_unknown {
                known.insert((used.kind, used.name));
            }
            is_unknown
        });
        found
    }

    /// The literal formats of `date` and `time`: the filter, the format and its place, quotes included.
    pub fn formats(&self) -> Vec<(&'a str, String, Range<usize>)> {
        if self.is_plain() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for window in self.all().windows(4) {
            if let [
                (Token::Pipe, _),
                (Token::Ident(filter @ ("date" | "time")), _),
                (Token::ParenOpen, _),
                (text, at),
            ] = window
            {
                match text {
                    Token::Str(format) => found.push((*filter, (*format).to_owned(), at.clone())),
                    Token::String(format) => found.push((*filter, format.to_string(), at.clone())),
                    _ => {}
                }
            }
        }
        found
    }

    /// Where the template first uses a name, such as `["caller", "name"]`: the bytes of the last part.
    pub fn find_name(&self, path: &[&str]) -> Option<Range<usize>> {
        let tokens = self.all();
        let is = |at: usize, token: &Token<'_>| tokens.get(at).is_some_and(|(there, _)| same(there, token));
        let last = 2 * path.len().checked_sub(1)?;
        (0..tokens.len()).find_map(|start| {
            if start > 0 && is(start - 1, &Token::Dot) {
                return None;
            }
            let fits = path.iter().enumerate().all(|(step, part)| {
                let at = start + 2 * step;
                is(at, &Token::Ident(part)) && (step == 0 || is(at - 1, &Token::Dot))
            });
            fits.then(|| tokens.get(start + last).map(|(_, at)| at.clone())).flatten()
        })
    }
}

fn uses<'a>(tokens: &[(Token<'a>, Range<usize>)]) -> Vec<Use<'a>> {
    let mut found = Vec::new();
    for (at, (token, place)) in tokens.iter().enumerate() {
        let Token::Ident(name) = token else { continue };
        let before = |back: usize| at.checked_sub(back).and_then(|at| tokens.get(at)).map(|(token, _)| token);
        let kind = match (before(2), before(1)) {
            (_, Some(Token::Pipe)) | (Some(Token::BlockStart), Some(Token::Ident("filter"))) => {
                UseKind::Filter
            }
            (_, Some(Token::Ident("is"))) if *name != "not" => UseKind::Test,
            (Some(Token::Ident("is")), Some(Token::Ident("not"))) => UseKind::Test,
            _ => continue,
        };
        found.push(Use { name, kind, at: place.clone() });
    }
    found
}

fn same(one: &Token<'_>, other: &Token<'_>) -> bool {
    match (one, other) {
        (Token::Ident(one), Token::Ident(other)) => one == other,
        (Token::Dot, Token::Dot) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_and_tests_are_found_everywhere() {
        let template = "| no {% if a is not odd %}{{ b|upper | shout(c) }}{% endif %}{% filter loud %}is x{% endfilter %}\
                        {% raw %}{{ x | raw }}{% endraw %}{# {{ y | gone }} #}{{ 'z | text' if d is wrong }}";
        let names: Vec<_> =
            uses(Tokens::new(template).all()).iter().map(|used| (used.name, used.kind)).collect();
        assert_eq!(
            names,
            [
                ("odd", UseKind::Test),
                ("upper", UseKind::Filter),
                ("shout", UseKind::Filter),
                ("loud", UseKind::Filter),
                ("wrong", UseKind::Test),
            ]
        );
        let unknown = Tokens::new(template).unknown_uses(&Environment::new());
        let names: Vec<_> = unknown.iter().map(|used| &template[used.at.clone()]).collect();
        assert_eq!(names, ["shout", "loud", "wrong"]);
    }

    #[test]
    fn a_quick_look_misses_no_filter() {
        for (template, plain) in [
            ("Hello, this is a text | with no tag.", true),
            ("{{ caller.name }} {% if now %}{% else %}{% endif %}", true),
            ("{{ now | date }}", false),
            ("{{ '}}' | shout }}", false),
            ("{% if a is odd %}{% endif %}", false),
            ("{% filter upper %}x{% endfilter %}", false),
            ("{# {{ #} {{ a | b }}", false),
            ("{% raw %}{{{% endraw %}{{ a|b }}", false),
            ("{{ a }", true),
            ("{{ a", false),
            ("{{ {'x': 1} | length }}", false),
            ("{{ {x: {y: 1}} }} | {{ z }}", false),
        ] {
            assert_eq!(Tokens::new(template).is_plain(), plain, "{template}");
        }
    }

    #[test]
    fn every_branch_that_depends_on_the_call_is_taken() {
        for (template, every) in [
            ("{% if clinic %}a{% else %}b{% endif %}", None),
            ("{% if x.caller %}a{% endif %} caller now", None),
            (
                "{% if caller.name %}a{% elif x %}b{%- else -%}c{% endif %}",
                Some("{% if true %}a{% endif %}{% if true %}b{% endif %}{% if true %}c{% endif %}"),
            ),
            (
                "{% set late = now | time %}\n{% if\n late %}{% for a in b %}x{% else %}y{% endfor %}{% endif %}",
                Some(
                    "{% set late = now | time %}\n{% if true %}\n{% for a in b %}x{% else %}y{% endfor %}{% endif %}",
                ),
            ),
            (
                "{% if a %}{% if now %}x{% endif %}{% else %}y{% endif %}",
                Some("{% if a %}{% if true %}x{% endif %}{% else %}y{% endif %}"),
            ),
        ] {
            assert_eq!(Tokens::new(template).every_branch().as_deref(), every, "{template}");
        }
    }

    #[test]
    fn a_text_in_brackets_is_a_part() {
        let template =
            "{{ clinic['name'] }} {{ a.b[\"c\"].d }} {{ x[caller.number] }} {{ y['z'].upper() }} {{ ['q'] }}";
        let tokens = Tokens::new(template);
        let paths: Vec<String> = tokens.paths_in_brackets().iter().map(|(path, _)| path.join(".")).collect();
        assert_eq!(paths, ["clinic.name", "a.b.c.d"]);
    }

    #[test]
    fn too_long_expressions_are_found_without_parsing() {
        for (fits, too_long) in [
            (format!("{{{{ 1{} }}}}", "+1".repeat(499)), format!("{{{{ 1{} }}}}", "+1".repeat(501))),
            (
                format!("{{% if a %}}{}{{% endif %}}", "{% elif b %}".repeat(200)),
                format!("{{% if a %}}{}{{% endif %}}", "{% elif b %}".repeat(201)),
            ),
        ] {
            assert_eq!(Tokens::new(&fits).too_long(), None, "{fits}");
            Environment::new().template_from_str(&fits).unwrap();
            assert!(Tokens::new(&too_long).too_long().is_some(), "{too_long}");
        }
    }

    #[test]
    fn literal_formats_are_found_everywhere() {
        let template =
            "{{ now | date('DD.MM') }}{% if a %}{{ b | time(\"%H\") | upper }}{% endif %}{{ c | date(d) }}";
        let tokens = Tokens::new(template);
        let formats: Vec<_> =
            tokens.formats().into_iter().map(|(filter, _, at)| (filter, &template[at])).collect();
        assert_eq!(formats, [("date", "'DD.MM'"), ("time", "\"%H\"")]);
    }

    #[test]
    fn a_name_is_found_with_its_parts() {
        let template = "name {{ x.caller }} {{ caller.spoken }} {{ caller.nmae }}";
        let tokens = Tokens::new(template);
        assert_eq!(tokens.find_name(&["caller", "nmae"]), Some(50..54));
        assert_eq!(tokens.find_name(&["caller"]), Some(23..29));
        assert_eq!(tokens.find_name(&["spoken"]), None);
    }
}
