//! What is wrong with a manifest, where, and what to write instead.
//!
//! In comes a finding of any stage (reading, parsing, validation, the model), out goes one line a beginner can act on.

use std::{cmp::Ordering, fmt};

/// How bad a [`Diagnostic`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; nothing to change.
    Notice,
    /// Probably not what was meant; the rest works.
    Warning,
    /// The input is refused.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// A place in the input.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file as it was named, or `<stdin>`.
    pub file: String,
    /// Line in the file, from 1; 0 when the whole file is meant.
    pub line: usize,
    /// Column in characters, from 1; 0 when the whole line is meant.
    pub column: usize,
    /// Number of the document within the file, from 1; 0 when the whole file is meant.
    pub document: usize,
    /// How many documents the file has.
    pub documents: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        if self.documents > 1 && self.document > 0 {
            write!(f, " (document {})", self.document)?;
        }
        Ok(())
    }
}

/// One finding. Prints as `file:line:column: object: field: problem; advice`, with `warning:` or `notice:` after the
/// place when it is not an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where; `None` when no place in the input is to blame (a flag, the state).
    pub place: Option<Place>,
    /// Which object, as `Service default/kubia`; empty when it is not about an object.
    pub object: String,
    /// Path of the field, as `spec.ports[0].targetPort`; empty when the whole object is meant.
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What to write; empty when the problem says it.
    pub advice: String,
}

impl Diagnostic {
    /// A finding that has no place in the manifests.
    pub fn placeless(severity: Severity, problem: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            severity,
            place: None,
            object: String::new(),
            field: String::new(),
            problem: problem.into(),
            advice: advice.into(),
        }
    }

    /// Whether the input is refused because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The order people read in: by file, line and column, the worst first at one place.
    pub fn reading_order(&self, other: &Self) -> Ordering {
        self.place
            .cmp(&other.place)
            .then(other.severity.cmp(&self.severity))
            .then_with(|| {
                (&self.object, &self.field, &self.problem).cmp(&(&other.object, &other.field, &other.problem))
            })
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.is_error() {
            write!(f, "{}: ", self.severity)?;
        }
        for part in [&self.object, &self.field] {
            if !part.is_empty() {
                write!(f, "{}: ", OneLine(part))?;
            }
        }
        write!(f, "{}", OneLine(&self.problem))?;
        if !self.advice.is_empty() {
            write!(f, "; {}", OneLine(&self.advice))?;
        }
        Ok(())
    }
}

/// Text with its control characters escaped: a name with a line feed in it must not break the line, nor the terminal.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c.is_control() {
                true => write!(f, "{}", c.escape_debug())?,
                false => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// Text from a manifest as it is shown in a message: quoted, one line, not too long.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 40;
    let mut short: String = text.chars().take(SHOWN).collect();
    if text.chars().count() > SHOWN {
        short.push('…');
    }
    format!("{short:?}")
}
