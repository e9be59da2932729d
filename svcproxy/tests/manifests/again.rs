//! Manifests that are read again: what is said of them is what a first reading would say.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use svcproxy::{
    input::{self, Inputs, Reading},
    manifest::{Changed, Diagnostic},
    model::{Model, Update},
    state::State,
};
use tempfile::TempDir;

use crate::given::options;

/// A directory of manifests, read time and again.
struct Scene {
    directory: TempDir,
    inputs: Inputs,
    state: State,
}

/// What a reading gave.
#[derive(Debug, PartialEq)]
struct Read {
    model: Option<Model>,
    state: State,
    diagnostics: Vec<Diagnostic>,
}

impl Scene {
    fn new() -> Self {
        Self {
            directory: TempDir::new().unwrap(),
            inputs: Inputs::default(),
            state: State::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn directory(&self) -> [PathBuf; 1] {
        [self.directory.path().to_owned()]
    }

    /// Reads again; whether endpoints alone were found to have changed, and what there is now.
    fn read(&mut self, changed: &Changed) -> (bool, Read) {
        let (in_part, model, diagnostics) = match self.inputs.read(&self.directory(), changed, &options(), &self.state)
        {
            Reading::All(input) => {
                self.state = input.state;
                (false, input.model, input.diagnostics)
            }
            Reading::Endpoints(Update {
                model,
                records,
                diagnostics,
            }) => {
                self.state.services.extend(records);
                (true, Some(model), diagnostics)
            }
        };
        let state = self.state.clone();
        let read = Read {
            model,
            state,
            diagnostics,
        };
        (in_part, read)
    }

    /// What a first reading would give.
    fn afresh(&self) -> Read {
        let input = input::read(&self.directory(), &options(), &self.state);
        Read {
            model: input.model,
            state: input.state,
            diagnostics: input.diagnostics,
        }
    }

    /// Reads again, and holds it against a first reading. Whether endpoints alone were found to have changed.
    #[track_caller]
    fn check(&mut self) -> bool {
        let afresh = self.afresh();
        let (in_part, read) = self.read(&Changed::Anything);
        assert_eq!(read, afresh);
        in_part
    }
}

fn service(name: &str, spec: &str) -> String {
    format!("---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{{spec}}}}}\n")
}

fn slice(name: &str, of: &str, addresses: &[&str]) -> String {
    let endpoints: Vec<_> = addresses.iter().map(|ip| format!("{{addresses: [{ip}]}}")).collect();
    format!(
        "---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}, labels: \
         {{kubernetes.io/service-name: {of}}}}}, addressType: IPv4, ports: [{{port: 8080}}], endpoints: [{}]}}\n",
        endpoints.join(", ")
    )
}

/// A file and what becomes of it: of some anything, of others nothing but endpoints.
fn edits() -> impl Strategy<Value = (&'static str, Option<String>)> {
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    let spec = prop::sample::select(vec![
        "ports: [{port: 80}]",
        "ports: [{port: 80}], selector: {app: a}",
        "type: NodePort, ports: [{port: 80}]",
        "type: NodePort, ports: [{port: 80, nodePort: 20080}]",
        "clusterIP: 10.96.0.7, ports: [{port: 80}]",
        "clusterIP: None, ports: [{port: 80}]",
        "ports: [{port: 0}]",
    ]);
    let addresses = prop::sample::subsequence(vec!["10.1.0.1", "10.1.0.2", "10.1.0.3"], 0..3);
    let endpoints = |(name, address): (&str, &str)| {
        format!(
            "---\n{{apiVersion: v1, kind: Endpoints, metadata: {{name: {name}}}, subsets: [{{addresses: [{{ip: {address}}}], \
             ports: [{{port: 8080}}]}}]}}\n"
        )
    };
    let pod = |address: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: pod, labels: {{app: a}}}}, status: {{podIP: {address}}}}}\n"
        )
    };
    let of_endpoints = prop_oneof![
        4 => (prop::sample::select(vec!["x", "y"]), name(), addresses)
            .prop_map(|(name, of, addresses)| slice(name, of, &addresses)),
        1 => (name(), prop::sample::select(vec!["10.1.0.8", "10.1.0.9"])).prop_map(endpoints),
        1 => Just("# one line more\n".to_owned()),
    ]
    .boxed();
    let document = prop_oneof![
        4 => (name(), spec).prop_map(|(name, spec)| service(name, spec)),
        1 => prop::sample::select(vec!["10.1.0.4", "10.1.0.5"]).prop_map(pod),
        2 => of_endpoints.clone(),
    ];
    let of_any = prop::collection::vec(document, 0..4).prop_map(|documents| documents.concat());
    let of_endpoints = prop::collection::vec(of_endpoints, 0..3).prop_map(|documents| documents.concat());
    let broken = Just("kind: [".to_owned());
    prop_oneof![
        2 => (prop::sample::select(vec!["1.yaml", "2.yaml"]), prop_oneof![12 => of_any, 1 => broken].prop_map(Some)),
        4 => (prop::sample::select(vec!["3.yaml", "4.yaml"]), of_endpoints.prop_map(Some)),
        1 => (prop::sample::select(vec!["1.yaml", "2.yaml", "3.yaml", "4.yaml"]), Just(None)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn reading_again_gives_what_a_first_reading_would(
        edits in prop::collection::vec(edits(), 1..16),
    ) {
        let mut scene = Scene::new();
        for (name, text) in edits {
            match text {
                Some(text) => scene.write(name, &text),
                None => drop(fs::remove_file(scene.path(name))),
            }
            scene.check();
        }
    }
}

#[test]
fn other_endpoints_are_a_change_in_part_and_the_rest_is_shared() {
    let mut scene = Scene::new();
    for name in ["a", "b"] {
        scene.write(&format!("{name}.yaml"), &service(name, "ports: [{port: 80}]"));
        scene.write(&format!("{name}-slices.yaml"), &slice(name, name, &["10.1.0.1"]));
    }
    scene.write(
        "headless.yaml",
        &service("headless", "clusterIP: None, ports: [{port: 80}]"),
    );
    assert!(!scene.check());
    let (in_part, before) = scene.read(&Changed::Anything);
    assert!(in_part);
    for addresses in [&["10.1.0.2"][..], &[], &["10.1.0.1", "10.1.0.3"]] {
        scene.write("b-slices.yaml", &slice("b", "b", addresses));
        assert!(scene.check(), "{addresses:?}");
        let (_, now) = scene.read(&Changed::Anything);
        let [before, now] = [&before, &now].map(|read| &read.model.as_ref().unwrap().services);
        assert!(std::sync::Arc::ptr_eq(&before[0], &now[0]));
        assert_eq!(now[1].ports[0].endpoints.len(), addresses.len());
    }
    scene.write("b.yaml", &service("b", "ports: [{port: 81}]"));
    assert!(!scene.check(), "another port");
    scene.write("b-slices.yaml", &slice("b", "nobody", &["10.1.0.1"]));
    assert!(!scene.check(), "a slice of nothing is to be warned of");
}

#[test]
fn a_file_that_is_changed_within_a_tick_of_the_clock_is_read_again() {
    let mut scene = Scene::new();
    scene.write("a.yaml", &service("a", "ports: [{port: 80}]"));
    for turn in 0..50 {
        let text = slice("a", "a", &[if turn % 2 == 0 { "10.1.0.1" } else { "10.1.0.2" }]);
        scene.write("slices.yaml", &text);
        scene.check();
    }
}

/// The model of a directory in which one file is told to have changed.
fn told(scene: &mut Scene, name: &str) -> Option<Model> {
    let files = BTreeSet::from([scene.path(name)]);
    scene.read(&Changed::Files(files)).1.model
}

fn names(model: &Model) -> Vec<&str> {
    model.services.iter().map(|service| &*service.name.name).collect()
}

#[test]
fn what_is_not_told_of_may_be_half_written_and_is_not_read() {
    let mut scene = Scene::new();
    scene.write("a.yaml", &service("a", "ports: [{port: 80}]"));
    scene.write("b.yaml", &service("b", "ports: [{port: 80}]"));
    scene.check();
    scene.write("b.yaml", "");
    scene.write("c.yaml", "apiVersion: v1\nkind:");
    scene.write("a.yaml", &service("a", "ports: [{port: 81}]"));
    let model = told(&mut scene, "a.yaml").expect("no error is read");
    assert_eq!(names(&model), ["a", "b"]);
    assert_eq!(model.services[0].ports[0].port, 81);
    scene.write("c.yaml", &service("c", "ports: [{port: 80}]"));
    assert_eq!(names(&told(&mut scene, "c.yaml").unwrap()), ["a", "b", "c"]);
    assert_eq!(names(&told(&mut scene, "b.yaml").unwrap()), ["a", "c"]);
}

#[test]
fn what_could_not_be_read_is_tried_again_and_not_forgotten() {
    let mut scene = Scene::new();
    scene.write("a.yaml", &service("a", "ports: [{port: 80}]"));
    fs::write(scene.path("b.yaml"), [0xff]).unwrap();
    assert!(told_anything(&mut scene).is_none());
    assert!(told(&mut scene, "a.yaml").is_none(), "b.yaml is no text yet");
    scene.write("b.yaml", &service("b", "ports: [{port: 80}]"));
    assert_eq!(names(&told(&mut scene, "a.yaml").unwrap()), ["a", "b"]);
}

fn told_anything(scene: &mut Scene) -> Option<Model> {
    scene.read(&Changed::Anything).1.model
}

#[test]
fn what_was_not_adopted_is_told_in_whole() {
    let mut scene = Scene::new();
    scene.write("a.yaml", &service("a", "ports: [{port: 80}]"));
    scene.check();
    assert!(scene.check());
    scene.inputs.forget();
    assert!(!scene.check());
}

#[test]
fn many_files_are_read_in_their_order() {
    let mut scene = Scene::new();
    for number in 0..60 {
        let name = format!("s{number:02}");
        let text = service(&name, "ports: [{port: 80}]").repeat(1 + number % 2);
        scene.write(&format!("{name}.yaml"), &text);
    }
    scene.check();
    let (_, read) = scene.read(&Changed::Anything);
    let refused: Vec<_> = read
        .diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_error())
        .collect();
    assert_eq!(refused.len(), 30, "those that are there twice");
    scene.write("t.yaml", &service("s02", "ports: [{port: 80}]"));
    let first = Path::new(&scene.path("s02.yaml")).display().to_string();
    scene.check();
    let (_, read) = scene.read(&Changed::Anything);
    let said = read.diagnostics.last().unwrap().to_string();
    assert!(
        said.contains(&format!("is defined twice, first at {first}:2:1")),
        "{said}"
    );
}
