//! docs/conformance.md says which test holds which rule, and is held to that.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Rust files below a directory.
fn sources(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The tests in a file that have the number of a rule or section.
fn numbered(text: &str) -> impl Iterator<Item = &str> {
    let functions = text
        .lines()
        .filter_map(|line| line.trim().split_once("fn ")?.1.split_once('('));
    functions.map(|(name, _)| name).filter(|name| {
        ["rule_", "rules_", "section_"]
            .iter()
            .filter_map(|prefix| name.strip_prefix(prefix))
            .any(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    })
}

#[test]
fn the_list_of_rules_names_all_tests_and_only_such() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let list = fs::read_to_string(root.join("docs/conformance.md")).unwrap();
    for rule in 1..=30 {
        assert!(list.contains(&format!("\n### {rule}. ")), "rule {rule} is not listed");
    }
    let mut listed = BTreeSet::new();
    for line in list.lines().filter(|line| line.starts_with("- `")) {
        let mut quoted = line.split('`').skip(1).step_by(2);
        let path = quoted.next().unwrap();
        let text = fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        for name in quoted.filter(|name| !name.contains('/')) {
            assert!(text.contains(&format!("fn {name}(")), "{path} has no test {name}");
            listed.insert((path.to_owned(), name.to_owned()));
        }
    }

    let mut files = Vec::new();
    for directory in ["svcproxy/src", "svcproxy/tests", "svcproxy-common", "tests/tests"] {
        sources(&root.join(directory), &mut files);
    }
    for file in files {
        let path = file.strip_prefix(root).unwrap().display().to_string();
        for name in numbered(&fs::read_to_string(&file).unwrap()) {
            assert!(
                listed.contains(&(path.clone(), name.to_owned())),
                "docs/conformance.md does not list `{path}` `{name}`"
            );
        }
    }
}
