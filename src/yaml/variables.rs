//! Which variables a text names.

use std::collections::BTreeSet;

use super::is_name;

/// The names of every `${NAME}` in a text, also in comments, in defaults, and where it is no valid YAML.
pub fn variables(text: &str) -> BTreeSet<String> {
    let behind = text.match_indices("${").map(|(at, sign)| &text[at + sign.len()..]);
    let names = behind.filter_map(|behind| behind.split([':', '}']).next());
    names.filter(|name| is_name(name)).map(str::to_owned).collect()
}
