//! What a template speaks of, found without running it: so also in branches that no sample takes.

use std::ops::Range;

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind};

/// A filter (`| name`) or a test (`is name`) in a template.
#[derive(Debug, PartialEq)]
pub struct Use<'a> {
    pub name: &'a str,
    pub kind: UseKind,
    /// The name's bytes in the template.
    pub at: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UseKind {
    Filter,
    Test,
}

/// The filters and tests of a template that the environment does not have.
pub fn unknown_uses<'a>(environment: &Environment<'_>, template: &'a str) -> Vec<Use<'a>> {
    let mut found = uses(&tokens(template));
    found.retain(|used| {
        let (probe, unknown) = match used.kind {
            UseKind::Filter => (format!("0|{}", used.name), ErrorKind::UnknownFilter),
            UseKind::Test => (format!("0 is {}", used.name), ErrorKind::UnknownTest),
        };
        let tried = environment.compile_expression(&probe).and_then(|probe| probe.eval(()));
        tried.is_err_and(|error| error.kind() == unknown)
    });
    found
}

/// Where a template first speaks of a name, such as `["caller", "name"]`: the bytes of the last part.
pub fn find_name(template: &str, path: &[&str]) -> Option<Range<usize>> {
    let tokens = tokens(template);
    let is = |at: usize, token: &Token<'_>| tokens.get(at).is_some_and(|(there, _)| same(there, token));
    (0..tokens.len()).find_map(|start| {
        if start > 0 && is(start - 1, &Token::Dot) {
            return None;
        }
        let fits = path.iter().enumerate().all(|(step, part)| {
            let at = start + 2 * step;
            is(at, &Token::Ident(part)) && (step == 0 || is(at - 1, &Token::Dot))
        });
        fits.then(|| tokens.get(start + 2 * (path.len().checked_sub(1)?)).map(|(_, at)| at.clone())).flatten()
    })
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

/// Up to the first mistake, which is a problem of its own.
fn tokens(template: &str) -> Vec<(Token<'_>, Range<usize>)> {
    tokenize(template, false, SyntaxConfig::default())
        .map_while(Result::ok)
        .map(|(token, span)| (token, span.start_offset as usize..span.end_offset as usize))
        .collect()
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
        let names: Vec<_> = uses(&tokens(template)).iter().map(|used| (used.name, used.kind)).collect();
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
        let unknown = unknown_uses(&Environment::new(), template);
        let names: Vec<_> = unknown.iter().map(|used| &template[used.at.clone()]).collect();
        assert_eq!(names, ["shout", "loud", "wrong"]);
    }

    #[test]
    fn a_name_is_found_with_its_parts() {
        let template = "name {{ x.caller }} {{ caller.spoken }} {{ caller.nmae }}";
        assert_eq!(find_name(template, &["caller", "nmae"]), Some(50..54));
        assert_eq!(find_name(template, &["caller"]), Some(23..29));
        assert_eq!(find_name(template, &["spoken"]), None);
    }
}
