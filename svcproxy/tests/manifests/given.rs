//! Builders: a cluster out of one-line manifests, and what becomes of it.

use std::{fs, path::PathBuf};

use ipnet::IpNet;
use svcproxy::{
    input::{self, Input},
    manifest::{self, Source},
    model::{Model, Options, Service},
    state::State,
};

/// The time of every test.
pub(crate) const NOW: u64 = 1_700_000_000;

/// The ranges of `--service-cluster-ip-range`'s default.
pub(crate) fn ranges(ranges: &[&str]) -> Vec<IpNet> {
    ranges.iter().map(|range| range.parse().expect("a CIDR")).collect()
}

/// Options with the default ranges.
pub(crate) fn options() -> Options {
    Options {
        ranges: ranges(&["10.96.0.0/12", "fd00:10:96::/112"]),
        now: NOW,
        ..Options::default()
    }
}

/// A text under the name `f.yaml`.
pub(crate) fn source(text: &str) -> Source {
    Source {
        name: "f.yaml".to_owned(),
        text: text.to_owned(),
    }
}

/// Reads one text with default options.
pub(crate) fn read(text: &str) -> Input {
    read_with(text, &options(), &State::default())
}

/// Reads one text.
pub(crate) fn read_with(text: &str, options: &Options, state: &State) -> Input {
    input::join(manifest::parse(&[source(text)]), options, state)
}

/// The diagnostics, one a line.
pub(crate) fn lines(input: &Input) -> String {
    let lines: Vec<String> = input.diagnostics.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// The model, or a panic that shows why there is none.
pub(crate) fn model(input: &Input) -> &Model {
    input
        .model
        .as_ref()
        .unwrap_or_else(|| panic!("no model:\n{}", lines(input)))
}

/// The Service of a name in the namespace `default`.
pub(crate) fn service<'m>(model: &'m Model, name: &str) -> &'m Service {
    let found = model
        .services
        .iter()
        .find(|s| s.name.to_string() == format!("default/{name}"));
    found.unwrap_or_else(|| panic!("no Service {name}"))
}

/// Every file of a directory of this crate, sorted, with its text.
pub(crate) fn files(directory: &str) -> Vec<(PathBuf, String)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(directory);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.is_file()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", directory.display());
    let read = |path: PathBuf| {
        let text = String::from_utf8_lossy(&fs::read(&path).expect("a file")).into_owned();
        (path, text)
    };
    paths.into_iter().map(read).collect()
}
