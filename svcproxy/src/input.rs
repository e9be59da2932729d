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
    manifest::{self, Diagnostic, Objects, Severity},
    model::{self, Model, Options},
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
    let mut loaded = manifest::load(filenames);
    if filenames.is_empty() {
        let problem = "no manifests are given";
        let advice = "name a file or a directory with -f, or pipe one in with -f -";
        loaded
            .diagnostics
            .push(Diagnostic::placeless(Severity::Error, problem, advice));
    }
    join(loaded, options, state)
}

/// The same for manifests already loaded.
pub fn join(loaded: manifest::Loaded, options: &Options, state: &State) -> Input {
    let manifest::Loaded {
        objects,
        mut diagnostics,
    } = loaded;
    let mut built = model::build(&objects, options, state);
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
