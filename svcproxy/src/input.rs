//! Manifests to a model in one step, for every command that takes `-f`.
//!
//! The daemon calls [`read`] at its start and at each reload:
//!
//! ```no_run
//! # use svcproxy::{input, model::Options, state::State};
//! # fn run(filenames: &[std::path::PathBuf], options: &Options, directory: &std::path::Path)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! let remembered = State::load(directory, options.now)?.state;
//! let input = input::read(filenames, options, &remembered);
//! for diagnostic in &input.diagnostics {
//!     eprintln!("{diagnostic}");
//! }
//! if let Some(model) = input.model {
//!     input.state.save(directory)?;
//!     // plan and apply `model`; without one, what is in force stays in force
//! #   let _ = model;
//! }
//! # Ok(()) }
//! ```

use std::path::PathBuf;

use crate::{
    manifest::{Changed, Diagnostic, Library, Loaded, Objects, Severity},
    model::{self, Basis, Built, Model, Options, Update},
    state::State,
};

/// What the manifests say.
#[derive(Debug, Clone)]
pub struct Input {
    /// The model; `None` when a diagnostic is an error.
    pub model: Option<Model>,
    /// What to save: the new state, or the one passed in when there is no model.
    pub state: State,
    /// Every error, warning and notice, in reading order.
    pub diagnostics: Vec<Diagnostic>,
    /// The valid objects.
    pub objects: Objects,
}

impl Input {
    /// The errors among the diagnostics.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.is_error())
    }
}

/// Reads, validates and builds. Touches nothing but the inputs; [`State::load`] and [`State::save`] are the caller's.
pub fn read(filenames: &[PathBuf], options: &Options, state: &State) -> Input {
    join(
        load(&mut Library::default(), filenames, &Changed::Anything),
        options,
        state,
    )
}

/// The same for manifests already loaded.
pub fn join(loaded: Loaded, options: &Options, state: &State) -> Input {
    let built = model::build(&loaded.objects, options, state);
    joined(loaded, built, state)
}

/// Manifests that are read time and again: what has not changed is neither parsed nor built anew.
#[derive(Debug, Default)]
pub struct Inputs {
    library: Library,
    basis: Option<Basis>,
}

/// What the manifests say this time.
#[derive(Debug, Clone)]
pub enum Reading {
    /// All of it.
    All(Input),
    /// The same as the last time, but for endpoints.
    Endpoints(Update),
}

impl Inputs {
    /// The same as [`read`]; `changed` is what may have since the last reading, `state` is what is remembered of the model of the last reading.
    pub fn read(&mut self, filenames: &[PathBuf], changed: &Changed, options: &Options, state: &State) -> Reading {
        let mut loaded = load(&mut self.library, filenames, changed);
        let is_valid = !loaded.diagnostics.iter().any(Diagnostic::is_error);
        if is_valid
            && let Some(basis) = &mut self.basis
            && let Some(mut update) = basis.update(&loaded.objects, options, state)
        {
            self.library.release_texts();
            update.diagnostics.append(&mut loaded.diagnostics);
            update.diagnostics.sort_by(Diagnostic::reading_order);
            return Reading::Endpoints(update);
        }
        let built = model::build(&loaded.objects, options, state);
        self.library.release_texts();
        self.basis = match is_valid {
            true => Basis::of(loaded.objects.clone(), options.clone(), &built),
            false => None,
        };
        Reading::All(joined(loaded, built, state))
    }

    /// What was read last has not come into force: the next time all of it is told again.
    pub fn forget(&mut self) {
        self.basis = None;
    }
}

fn load(library: &mut Library, filenames: &[PathBuf], changed: &Changed) -> Loaded {
    let mut loaded = library.load(filenames, changed);
    if filenames.is_empty() {
        let problem = "no manifests are given";
        let advice = "name a file or a directory with -f, or pipe one in with -f -";
        loaded
            .diagnostics
            .push(Diagnostic::placeless(Severity::Error, problem, advice));
    }
    loaded
}

/// What is said of the manifests and of the model together.
fn joined(loaded: Loaded, mut built: Built, state: &State) -> Input {
    let Loaded {
        objects,
        mut diagnostics,
    } = loaded;
    if diagnostics.iter().any(Diagnostic::is_error) {
        // Objects are missing, so that a Service without endpoints, say, proves nothing.
        built.diagnostics.retain(Diagnostic::is_error);
        built.model = None;
        built.state = state.clone();
    }
    diagnostics.append(&mut built.diagnostics);
    diagnostics.sort_by(Diagnostic::reading_order);
    Input {
        model: built.model,
        state: built.state,
        diagnostics,
        objects,
    }
}
