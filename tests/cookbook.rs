//! Every file in `docs/cookbook.md` passes `switchboard check` without a warning.

use std::path::Path;
use std::process::Command;

const PAGE: &str = include_str!("../docs/cookbook.md");

/// The YAML blocks of the page, each with the file name in its first line.
fn files() -> Vec<(&'static str, &'static str)> {
    let blocks = PAGE.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks
        .map(|block| {
            let first = block.lines().next().unwrap();
            (first.strip_prefix("# ").expect("a block starts with its file name"), block)
        })
        .collect()
}

/// What `check` reports for a folder with these files, as JSON, and whether it passed.
fn check(files: &[(&str, &str)]) -> (bool, serde_json::Value) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_switchboard"))
        .args(["check", "--format", "json"])
        .current_dir(folder.path())
        .env_clear()
        .env("MESSAGES_URL", "https://hooks.example.com/messages")
        .env("MESSAGES_SECRET", format!("whsec_{}", "aHVzaC1odXNo".repeat(3)))
        .output()
        .unwrap();
    (output.status.success(), serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn every_recipe_passes_the_check() {
    let files = files();
    assert!(files.len() >= 5, "only {} recipes were found", files.len());
    for file in &files {
        assert_eq!(check(&[*file]), (true, serde_json::json!([])), "{}", file.0);
    }
    assert_eq!(check(&files), (true, serde_json::json!([])), "all of them in one folder");
}

#[test]
fn every_recipe_is_linked_and_named_for_the_folder() {
    for (name, _) in files() {
        assert_eq!(Path::new(name).parent(), Some(Path::new("assistants")), "{name}");
    }
    let anchor = |title: &str| title.to_lowercase().replace(' ', "-");
    for title in PAGE.lines().filter_map(|line| line.strip_prefix("## ")) {
        assert!(PAGE.contains(&format!("- [{title}](#{})", anchor(title))), "{title} is not in the list");
    }
}
