//! Every file in `docs/cookbook.md` passes `switchboard check` without a warning, and links in the docs are not broken.

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
        .env("FORMS_URL", "https://hooks.example.com/forms")
        .env("FORMS_SECRET", format!("whsec_{}", "aHVzaC1odXNo".repeat(3)))
        .env("GARDEN_EMAIL", "owner@example.com")
        .env("PLUMBER_PHONE", "+15550100099")
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
    for title in PAGE.lines().filter_map(|line| line.strip_prefix("## ")) {
        assert!(PAGE.contains(&format!("- [{title}](#{})", anchor(title))), "{title} is not in the list");
    }
}

#[test]
fn every_relative_link_of_the_docs_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> =
        docs.filter(|path| path.extension().is_some_and(|ending| ending == "md")).collect();
    let others = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "twilio/README.md", "fuzz/README.md"];
    pages.extend(others.map(|page| root.join(page)));
    assert!(pages.len() > 15, "{pages:?}");
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        let links = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", page.display());
            if !heading.is_empty() {
                let target = std::fs::read_to_string(&target).unwrap();
                let mut headings = target.lines().filter(|line| line.starts_with('#')).map(anchor);
                assert!(headings.any(|found| found == heading), "{}: {link}", page.display());
            }
        }
    }
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter))
        .collect::<String>()
        .replace(' ', "-")
}
