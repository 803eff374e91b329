//! What a template speaks of, found without running it: so also in branches that no sample takes.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::ops::Range;

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind};

/// Tokens in one expression or statement at most. `minijinja` compiles a chain such as `1+1+1` by recursion without a
/// limit of its own: a very long one would overflow the stack, and end the whole program.
const LONGEST: usize = 1_000;
/// `elif` at most, for the same reason.
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

/// A template in its smallest parts, up to its first mistake, which is a problem of its own.
pub struct Tokens<'a> {
    template: &'a str,
    /// Made when they are asked for: most templates only name things.
    all: OnceCell<Vec<(Token<'a>, Range<usize>)>>,
}

impl<'a> Tokens<'a> {
    pub fn of(template: &'a str) -> Tokens<'a> {
        Tokens { template, all: OnceCell::new() }
    }

    fn all(&self) -> &[(Token<'a>, Range<usize>)] {
        self.all.get_or_init(|| {
            let tokens = tokenize(self.template, false, SyntaxConfig::default()).map_while(Result::ok);
            tokens.map(|(token, at)| (token, at.start_offset as usize..at.end_offset as usize)).collect()
        })
    }

    /// Whether it is seen at a glance that there is no filter and no test in it, and nothing long: whatever stands
    /// between a `{` and the next `}` is short, closed, and holds no sign of one.
    fn is_plain(&self) -> bool {
        if self.template.contains("{#") || self.template.matches("elif").count() > MOST_BRANCHES {
            return false;
        }
        let mut tags = self.template.split('{');
        tags.next();
        // After a brace that opens a tag, up to the next brace of any kind.
        tags.all(|rest| {
            let inner = rest.split('}').next().unwrap_or_default();
            let odd = ["|", "\"", "'", "is", "filter", "raw"].iter().any(|odd| inner.contains(odd));
            !odd && inner.len() <= LONGEST && (inner.len() < rest.len() || rest.is_empty())
        })
    }

    /// Where the template is longer than it may be: see [`LONGEST`]. To be asked before it is parsed.
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

    /// Where the template first speaks of a name, such as `["caller", "name"]`: the bytes of the last part.
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
    fn filters_and_tests_are_found_wherever_they_stand() {
        let template = "| no {% if a is not odd %}{{ b|upper | shout(c) }}{% endif %}{% filter loud %}is x{% endfilter %}\
                        {% raw %}{{ x | raw }}{% endraw %}{# {{ y | gone }} #}{{ 'z | text' if d is wrong }}";
        let names: Vec<_> =
            uses(Tokens::of(template).all()).iter().map(|used| (used.name, used.kind)).collect();
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
        let unknown = Tokens::of(template).unknown_uses(&Environment::new());
        let names: Vec<_> = unknown.iter().map(|used| &template[used.at.clone()]).collect();
        assert_eq!(names, ["shout", "loud", "wrong"]);
    }

    #[test]
    fn a_glance_misses_no_filter() {
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
            assert_eq!(Tokens::of(template).is_plain(), plain, "{template}");
        }
    }

    #[test]
    fn what_is_too_long_is_told_before_it_is_parsed() {
        for (fits, too_long) in [
            (format!("{{{{ 1{} }}}}", "+1".repeat(499)), format!("{{{{ 1{} }}}}", "+1".repeat(501))),
            (
                format!("{{% if a %}}{}{{% endif %}}", "{% elif b %}".repeat(200)),
                format!("{{% if a %}}{}{{% endif %}}", "{% elif b %}".repeat(201)),
            ),
        ] {
            assert_eq!(Tokens::of(&fits).too_long(), None, "{fits}");
            Environment::new().template_from_str(&fits).unwrap();
            assert!(Tokens::of(&too_long).too_long().is_some(), "{too_long}");
        }
    }

    #[test]
    fn a_name_is_found_with_its_parts() {
        let template = "name {{ x.caller }} {{ caller.spoken }} {{ caller.nmae }}";
        let tokens = Tokens::of(template);
        assert_eq!(tokens.find_name(&["caller", "nmae"]), Some(50..54));
        assert_eq!(tokens.find_name(&["caller"]), Some(23..29));
        assert_eq!(tokens.find_name(&["spoken"]), None);
    }
}
