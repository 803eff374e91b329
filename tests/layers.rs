//! The server stands on its layers: a module uses its own folder and the layers below it.
//!
//! Every path in `src/` is read (`crate::`, `super::`, `switchboard::`, grouped imports, and modules declared in
//! `lib.rs`); one that points up or sideways fails, and so does a module that is on no layer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// From the ground up. On layer 8 the modules may use each other.
const LAYERS: [&[&str]; 10] = [
    &["id", "phone", "problem", "secret"],
    &["provider", "wire", "yaml"],
    &["assistant", "settings"],
    &["call"],
    &["observe"],
    &["link"],
    &["tool"],
    &["reload", "session"],
    &["http"],
    &["command", "doctor", "lib", "main", "numbers", "process", "rehearse", "serve", "tunnel"],
];

/// Layers 0 to 3 deny the clock, sockets, locks and tasks.
const PURE: usize = 3;

#[test]
fn no_path_points_up() {
    let files = sources();
    assert!(files.len() > 20, "only {} source files were found", files.len());
    let layers = layers();
    let mut wrong = Vec::new();
    for (file, module, text) in &files {
        let Some(&layer) = layers.get(module.as_str()) else {
            wrong.push(format!("{}: `{module}` is on no layer of tests/layers.rs", file.display()));
            continue;
        };
        for used in modules_used(text, file) {
            match layers.get(used.as_str()) {
                _ if used == *module => {}
                Some(&below) if below < layer || layer == LAYERS.len() - 1 => {}
                Some(_) => wrong.push(format!("{}: `{module}` uses `{used}`", file.display())),
                None => wrong.push(format!("{}: `{used}` is on no layer", file.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "these point up or sideways:\n{}", wrong.join("\n"));
}

#[test]
fn the_pure_layers_are_fenced() {
    for module in LAYERS[..=PURE].iter().copied().flatten() {
        let root = [format!("src/{module}.rs"), format!("src/{module}/mod.rs")]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .unwrap_or_else(|| panic!("`{module}` has no file"));
        let text = std::fs::read_to_string(&root).unwrap();
        let fence = "#![deny(clippy::disallowed_methods, clippy::disallowed_types)]";
        assert!(text.contains(fence), "{root} lacks the fence");
    }
}

#[test]
fn the_reader_of_paths_sees_them_all() {
    let text = r#"
        use crate::{audio::Clip, call::{self, Call}, id::ItemId};
        use crate::wire::twilio; // crate::http in a comment does not count
        fn f() { super::super::session::x(); crate :: secret::Secret::new("crate::link") }
        pub use switchboard::serve;
    "#;
    let mut used = modules_used(text, Path::new("src/link/model.rs"));
    used.sort();
    used.dedup();
    assert_eq!(used, ["audio", "call", "id", "secret", "serve", "session", "wire"]);
}

fn layers() -> BTreeMap<&'static str, usize> {
    let layers = LAYERS.iter().enumerate();
    layers.flat_map(|(layer, modules)| modules.iter().map(move |module| (*module, layer))).collect()
}

/// Each source file with the top module it belongs to.
fn sources() -> Vec<(PathBuf, String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let top = path.strip_prefix("src").unwrap().components().next().unwrap();
                let module = Path::new(top.as_os_str()).with_extension("").display().to_string();
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, module, text));
            }
        }
    }
    found
}

/// The top modules that a file's paths lead to.
fn modules_used(text: &str, file: &Path) -> Vec<String> {
    let code = squeezed(text);
    let depth = file.strip_prefix("src").unwrap_or(file).components().count()
        - usize::from(file.file_name().is_some_and(|name| name == "mod.rs"));
    let mut used = Vec::new();
    for root in ["crate::".to_owned(), "switchboard::".to_owned(), "super::".repeat(depth)] {
        for (at, _) in code.match_indices(&root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':') {
                continue;
            }
            heads(&code[at + root.len()..], &mut used);
        }
    }
    used.retain(|name| {
        name.chars().next().is_some_and(char::is_lowercase) && name != "self" && name != "super"
    });
    used
}

/// The first names of a path or of a group of paths.
fn heads(rest: &str, used: &mut Vec<String>) {
    let name = |text: &str| -> String {
        text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let Some(group) = rest.strip_prefix('{') else {
        return used.push(name(rest));
    };
    let mut depth = 0usize;
    let mut start = true;
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            _ if start => {
                used.push(name(&group[at..]));
                start = false;
            }
            _ => {}
        }
    }
}

/// The code without comments, strings and white space between a path's parts.
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
