//! Whole files and everything that is said of them, word for word. The `tutorial-*.yaml` are the blocks of the document
//! that beginners copy from, as they stand there.

use std::path::PathBuf;

use svcproxy::{
    input,
    manifest::{self, Source},
    state::State,
};

use crate::given::{files, lines, options};

#[test]
fn every_input_is_answered_in_these_words() {
    for (path, text) in files("tests/manifests/inputs") {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let input = input::join(
            manifest::parse(&[Source {
                name: name.clone(),
                text,
            }]),
            &options(),
            &State::default(),
        );
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_snapshot_path("answers");
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name, lines(&input)));
    }
}

#[test]
fn the_examples_are_valid_together_and_alone() {
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../manifests/examples");
    let together = input::read(std::slice::from_ref(&examples), &options(), &State::default());
    assert_eq!(lines(&together), "");
    assert_eq!(together.model.unwrap().services.len(), 5);
    let exposed = files("../manifests/examples/exposed");
    for (path, _) in files("../manifests/examples").into_iter().chain(exposed) {
        let alone = input::read(std::slice::from_ref(&path), &options(), &State::default());
        assert_eq!(lines(&alone), "", "{}", path.display());
        let model = alone.model.unwrap();
        assert_eq!(model.services.len(), 1, "{}", path.display());
        for port in &model.services[0].ports {
            assert!(port.endpoints.len() >= 2, "{} port {}", path.display(), port.port);
        }
    }
}

#[test]
fn inputs_that_cannot_be_read_are_named() {
    let directory = std::env::temp_dir().join(format!("svcproxy-inputs-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("sub.yaml")).unwrap();
    std::fs::write(
        directory.join("latin1.yml"),
        b"kind: Service\nmetadata: {name: caf\xe9}\n",
    )
    .unwrap();
    std::fs::write(directory.join("notes.txt"), "not: read").unwrap();
    std::fs::write(directory.join("empty.json"), "").unwrap();
    let missing = directory.join("missing.yaml");
    let input = input::read(&[directory.clone(), missing], &options(), &State::default());
    let text = lines(&input).replace(&directory.display().to_string(), "DIR");
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(
        text,
        "DIR/latin1.yml:2: is not UTF-8 text; save the file as UTF-8\n\
         DIR/missing.yaml: cannot be read: No such file or directory (os error 2)"
    );
    assert!(lines(&input::read(&[], &options(), &State::default())).starts_with("no manifests are given"));
}

#[test]
fn a_pipe_is_read_once_and_found_again_by_a_reload() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let service = "{apiVersion: v1, kind: Service, metadata: {name: kubia}, spec: {ports: [{port: 80}]}}";
    let read = || {
        let input = input::read(std::slice::from_ref(&pipe), &options(), &State::default());
        input.model.unwrap().services.len()
    };
    std::thread::scope(|scope| {
        scope.spawn(|| std::fs::write(&pipe, service).unwrap());
        assert_eq!(read(), 1);
    });
    assert_eq!(read(), 1);
}

#[test]
fn an_error_in_one_file_hides_nothing_of_another() {
    let source = |name: &str, text: &str| Source {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let sources = [
        source(
            "b.yaml",
            "kind: Pod\napiVersion: v1\nmetadata: {name: x}\nstatus: {podIP: y}\n",
        ),
        source("a.yaml", "kind: [\n---\nkind: Service\n"),
    ];
    let loaded = manifest::parse(&sources);
    let places: Vec<String> = loaded
        .diagnostics
        .iter()
        .map(|d| d.place.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(places[..2], ["a.yaml:2:1 (document 1)", "a.yaml:3:1 (document 2)"]);
    assert_eq!(places.last().unwrap(), "b.yaml:4:17");
}
