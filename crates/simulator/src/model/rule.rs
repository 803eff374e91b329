//! JSON shapes as tables: keys, types, ranges.

use serde_json::{Map, Value};

use super::refusal::Refusal;

/// What a value must be.
pub(super) enum Rule {
    Text,
    Flag,
    Whole(i64, i64),
    Decimal(f64, f64),
    OneOf(&'static [&'static str]),
    /// Exactly these keys may appear; a name that starts with `!` must.
    Keys(&'static [(&'static str, Rule)]),
    /// An object with any keys.
    Open,
    List(&'static Rule),
    OrNull(&'static Rule),
    By(fn(&Value, &str) -> Result<(), Refusal>),
}

impl Rule {
    /// Returns the first error in `value`, found at `path`.
    pub fn check(&self, value: &Value, path: &str) -> Result<(), Refusal> {
        let wrong = |expected: &str| Err(Refusal::wrong_type(path, expected, value));
        match self {
            Rule::Text if !value.is_string() => wrong("a string"),
            Rule::Flag if !value.is_boolean() => wrong("a boolean"),
            Rule::Open if !value.is_object() => wrong("an object"),
            Rule::Text | Rule::Flag | Rule::Open => Ok(()),
            Rule::OrNull(_) if value.is_null() => Ok(()),
            Rule::OrNull(rule) => rule.check(value, path),
            Rule::By(check) => check(value, path),
            Rule::Whole(low, high) => match value.as_i64() {
                None => wrong("an integer"),
                Some(n) if n < *low => Err(out_of_range("integer", "below", path, &low, &n)),
                Some(n) if n > *high => Err(out_of_range("integer", "above", path, &high, &n)),
                Some(_) => Ok(()),
            },
            Rule::Decimal(low, high) => match value.as_f64() {
                None => wrong("a decimal"),
                Some(n) if n < *low => Err(out_of_range("decimal", "below", path, &low, &n)),
                Some(n) if n > *high => Err(out_of_range("decimal", "above", path, &high, &n)),
                Some(_) => Ok(()),
            },
            Rule::OneOf(allowed) => match value.as_str() {
                None => wrong("a string"),
                Some(got) if !allowed.contains(&got) => Err(Refusal::not_one_of(path, got, allowed)),
                Some(_) => Ok(()),
            },
            Rule::List(rule) => match value.as_array() {
                None => wrong("an array"),
                Some(list) => {
                    list.iter().enumerate().try_for_each(|(i, one)| rule.check(one, &format!("{path}[{i}]")))
                }
            },
            Rule::Keys(rules) => match value.as_object() {
                None => wrong("an object"),
                Some(object) => check_keys(rules, object, path),
            },
        }
    }
}

/// Checks for unknown keys, then each known one, then for missing ones.
pub(super) fn check_keys(
    rules: &[(&str, Rule)],
    object: &Map<String, Value>,
    path: &str,
) -> Result<(), Refusal> {
    let at = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    for (key, value) in object {
        let rule = rules.iter().find(|(name, _)| name.trim_start_matches('!') == key);
        match rule {
            None => return Err(Refusal::unknown_key(&at(key))),
            Some((_, rule)) => rule.check(value, &at(key))?,
        }
    }
    for (name, _) in rules {
        if let Some(required) = name.strip_prefix('!')
            && !object.contains_key(required)
        {
            return Err(Refusal::missing(&at(required)));
        }
    }
    Ok(())
}

fn out_of_range(
    kind: &str,
    side: &str,
    path: &str,
    limit: &dyn std::fmt::Display,
    got: &dyn std::fmt::Display,
) -> Refusal {
    let (end, sign) = if side == "below" { ("min", ">=") } else { ("max", "<=") };
    let extreme = if side == "below" { "minimum" } else { "maximum" };
    let message = format!(
        "Invalid '{path}': {kind} {side} {extreme} value. Expected a value {sign} {limit}, but got {got} instead."
    );
    Refusal::new(&format!("{kind}_{side}_{end}_value"), message, path.to_owned())
}
