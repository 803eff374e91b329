//! Modules depend on each other in one direction only (`docs/architecture.md` has the map).
//!
//! Every path in `src/` is read: `crate::`, `super::`, `switchboard::`, and grouped imports.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Every top-level module with its layer. A module uses only modules that stand before it.
const ORDER: [(u8, &str); 37] = [
    (0, "duration"),
    (0, "id"),
    (0, "invisible"),
    (0, "phone"),
    (0, "secret"),
    (0, "problem"),
    (1, "provider"),
    (1, "wire"),
    (1, "yaml"),
    (2, "assistant"),
    (2, "settings"),
    (3, "call"),
    (3, "record"),
    (3, "notice"),
    (4, "process"),
    (4, "disk"),
    (4, "observe"),
    (4, "sound"),
    (4, "store"),
    (4, "recording"),
    (5, "link"),
    (6, "post"),
    (6, "tool"),
    (6, "numbers"),
    (7, "session"),
    (7, "reload"),
    (8, "http"),
    (8, "console"),
    (8, "serve"),
    (8, "workspace"),
    (8, "terminal"),
    (9, "tunnel"),
    (9, "rehearse"),
    (9, "doctor"),
    (10, "command"),
    (10, "lib"),
    (10, "main"),
];

/// The layers from 0 to this one have no clock, sockets, locks or tasks.
const PURE: u8 = 3;

#[test]
fn a_module_uses_only_those_before_it() {
    let positions: BTreeMap<&str, usize> =
        ORDER.iter().enumerate().map(|(position, (_, module))| (*module, position)).collect();
    assert_eq!(positions.len(), ORDER.len(), "a module is listed twice");
    assert!(ORDER.is_sorted_by_key(|(layer, _)| layer), "the layers are not in order");
    let modules = Modules::read();
    let mut wrong = String::new();
    for module in modules.files.keys().filter(|path| path.len() == 1) {
        if !positions.contains_key(module[0].as_str()) {
            writeln!(wrong, "`{}` has no layer: add it to ORDER", module[0]).unwrap();
        }
    }
    for ((user, used), file) in modules.siblings(&[]) {
        if positions.get(user) <= positions.get(used) {
            writeln!(wrong, "`{user}` uses `{used}` in {}", file.display()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn no_modules_of_one_folder_use_each_other() {
    let modules = Modules::read();
    let mut wrong = String::new();
    for parent in modules.files.keys() {
        for cycle in cycles(modules.siblings(parent).into_keys()) {
            writeln!(wrong, "in `{}`: {}", parent.join("::"), cycle.join(", ")).unwrap();
        }
    }
    assert!(wrong.is_empty(), "these use each other:\n{wrong}");
}

#[test]
fn the_pure_layers_deny_clocks_sockets_locks_and_tasks() {
    let roots = ORDER.iter().filter(|(layer, _)| *layer <= PURE).flat_map(|(_, module)| {
        [format!("src/{module}.rs"), format!("src/{module}/mod.rs")].map(PathBuf::from)
    });
    for root in roots.filter(|root| root.exists()).chain([PathBuf::from("crates/audio/src/lib.rs")]) {
        let text = std::fs::read_to_string(&root).unwrap();
        let lints = "#![deny(clippy::disallowed_methods, clippy::disallowed_types)]";
        assert!(text.contains(lints), "{} lacks {lints}", root.display());
    }
}

#[test]
fn every_path_is_read() {
    let text = r#"
        use crate::{audio::Clip, call::{self, end::{Ending, Stage}}, id::ItemId};
        use crate::wire::twilio; // crate::http in a comment does not count
        fn f() { super::super::session::x(); crate :: secret::Secret::new("crate::link") }
        pub use switchboard::serve;
    "#;
    let mut paths = paths(text);
    paths.sort();
    assert_eq!(
        paths,
        [
            "crate::audio::Clip",
            "crate::call::end::Ending",
            "crate::call::end::Stage",
            "crate::call::self",
            "crate::id::ItemId",
            "crate::secret::Secret::new",
            "crate::wire::twilio",
            "super::super::session::x",
            "switchboard::serve",
        ]
    );
}

/// The modules of `src/` by their paths, and what each of them uses.
struct Modules {
    files: BTreeMap<Vec<String>, (PathBuf, BTreeSet<Vec<String>>)>,
}

impl Modules {
    fn read() -> Self {
        let mut texts = BTreeMap::new();
        let mut folders = vec![PathBuf::from("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    texts.insert(module_path(&path), path);
                }
            }
        }
        assert!(texts.len() > 20, "only {} source files were found", texts.len());
        let known: BTreeSet<Vec<String>> = texts.keys().cloned().collect();
        let files = texts.into_iter().map(|(module, file)| {
            let text = std::fs::read_to_string(&file).unwrap();
            let used = paths(&text).iter().filter_map(|path| resolved(&module, path, &known)).collect();
            (module, (file, used))
        });
        Self { files: files.collect() }
    }

    /// Which children of `parent` use which others, and one of the files that do.
    fn siblings(&self, parent: &[String]) -> BTreeMap<(&str, &str), &Path> {
        let mut found = BTreeMap::new();
        for (module, (file, used)) in &self.files {
            let Some(user) = child(parent, module) else { continue };
            for used in used.iter().filter_map(|path| child(parent, path)).filter(|used| *used != user) {
                found.insert((user, used), file.as_path());
            }
        }
        found
    }
}

/// The child of `parent` that `module` is, or is in.
fn child<'a>(parent: &[String], module: &'a [String]) -> Option<&'a str> {
    module.strip_prefix(parent)?.first().map(String::as_str)
}

fn module_path(file: &Path) -> Vec<String> {
    let path = file.strip_prefix("src").unwrap().with_extension("");
    let mut names: Vec<String> = path.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    names.pop_if(|name| name == "mod");
    names
}

/// The module that a path in `module` leads to; `None` for one that leads out of the crate.
fn resolved(module: &[String], path: &str, known: &BTreeSet<Vec<String>>) -> Option<Vec<String>> {
    let mut names: Vec<String> = module.to_vec();
    for name in path.split("::") {
        match name {
            "crate" | "switchboard" => names.clear(),
            "super" => drop(names.pop()),
            "self" => {}
            name => names.push(name.to_owned()),
        }
    }
    while !known.contains(&names) {
        names.pop()?;
    }
    Some(names)
}

/// Sets of modules that use each other, directly or by way of others.
fn cycles<'a>(edges: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeSet<Vec<&'a str>> {
    let mut reach: BTreeSet<(&str, &str)> = edges.collect();
    loop {
        let further: Vec<_> = reach
            .iter()
            .flat_map(|(a, b)| reach.iter().filter(move |(from, _)| from == b).map(move |(_, c)| (*a, *c)))
            .filter(|edge| !reach.contains(edge))
            .collect();
        if further.is_empty() {
            break;
        }
        reach.extend(further);
    }
    let members: BTreeSet<&str> = reach.iter().filter(|(a, b)| a == b).map(|(a, _)| *a).collect();
    let group = |member: &str| {
        members
            .iter()
            .filter(|other| reach.contains(&(member, **other)) && reach.contains(&(**other, member)))
            .copied()
            .collect()
    };
    members.iter().map(|member| group(member)).collect()
}

/// Every path that begins at a root, with groups written out.
fn paths(text: &str) -> Vec<String> {
    let code = squeezed(text);
    let mut found = Vec::new();
    for root in ["crate::", "super::", "switchboard::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_none_or(|before| !before.is_alphanumeric() && before != '_' && before != ':') {
                expand("", &code[at..], &mut found);
            }
        }
    }
    found
}

/// Reads one path or group, and returns what follows it.
fn expand<'a>(prefix: &str, mut rest: &'a str, found: &mut Vec<String>) -> &'a str {
    let mut path = prefix.to_owned();
    loop {
        if let Some(mut group) = rest.strip_prefix('{') {
            while !group.is_empty() && !group.starts_with('}') {
                group =
                    expand(&path, group.trim_start_matches([',', ' ']), found).trim_start_matches([',', ' ']);
            }
            return group.strip_prefix('}').unwrap_or(group);
        }
        let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
        if end == 0 {
            // `*`, or nothing that is a name.
            found.push(path.trim_end_matches("::").to_owned());
            return rest.get(rest.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default();
        }
        path.push_str(&rest[..end]);
        rest = &rest[end..];
        match rest.strip_prefix("::") {
            Some(after) => {
                path.push_str("::");
                rest = after;
            }
            None => {
                found.push(path);
                // `name as other`
                return rest.find([',', '}', ';']).map_or(rest, |at| &rest[at..]);
            }
        }
    }
}

/// The code without comments, strings, and spaces around `::`.
fn squeezed(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default();
        let mut quoted = false;
        let mut escaped = false;
        for letter in line.chars() {
            match letter {
                '"' if !escaped => quoted = !quoted,
                _ if quoted => {}
                letter if letter.is_whitespace() => {
                    if !code.ends_with([' ', ':', '{', ',']) {
                        code.push(' ');
                    }
                }
                ':' => {
                    while code.ends_with(' ') {
                        code.pop();
                    }
                    code.push(':');
                }
                letter => code.push(letter),
            }
            escaped = letter == '\\' && !escaped;
        }
        code.push(' ');
    }
    code
}
