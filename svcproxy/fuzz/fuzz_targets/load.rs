//! Any text as a manifest: the loader and the model must neither panic nor point outside the text.
//!
//! `cargo +nightly fuzz run load` in `svcproxy/`. What it finds belongs into `corpus/load/`, which an ordinary test
//! (`tests/manifests/robustness.rs`) replays.

#![no_main]

use libfuzzer_sys::fuzz_target;
use svcproxy::{
    input,
    manifest::{self, Source},
    model::Options,
    state::State,
};

fuzz_target!(|text: &str| {
    let lines = text.split('\n').count();
    let name = "fuzz.yaml".to_owned();
    let loaded = manifest::parse(&[Source { name, text: text.to_owned() }]);
    let input = input::join(loaded, &Options::default(), &State::default());
    assert_eq!(input.model.is_none(), input.errors().next().is_some());
    for diagnostic in &input.diagnostics {
        let place = diagnostic.place.as_ref().expect("a place in the text");
        assert!((1..=lines).contains(&place.line), "{diagnostic}");
        assert!(!diagnostic.to_string().contains('\n'), "{diagnostic}");
    }
});
