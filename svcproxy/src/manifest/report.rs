//! Collecting what is wrong with one object, each finding at its place in the text.

use std::sync::Arc;

use super::{
    diagnostic::{Diagnostic, Severity, quoted},
    document::{Document, Part},
    path,
};

/// Where an object came from: enough to point into it after it was parsed.
#[derive(Debug, Clone)]
pub struct Origin {
    document: Arc<Document>,
    /// Path of the object within its document: empty, or `items[3]` within a List.
    prefix: String,
    /// The object as messages name it: `Service default/kubia`.
    object: String,
}

impl Origin {
    pub(crate) fn new(document: Arc<Document>, prefix: String, object: String) -> Self {
        Self {
            document,
            prefix,
            object,
        }
    }

    /// A finding about the field at `field` (empty: the object itself).
    pub fn diagnostic(
        &self,
        severity: Severity,
        field: &str,
        problem: impl Into<String>,
        advice: impl Into<String>,
    ) -> Diagnostic {
        self.point(severity, field, Part::Value, problem.into(), advice.into())
    }

    /// The object as messages name it.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// `file:line:column` of the object.
    pub fn place(&self) -> String {
        self.document.place(&self.prefix, Part::Value).to_string()
    }

    fn point(&self, severity: Severity, field: &str, part: Part, problem: String, advice: String) -> Diagnostic {
        Diagnostic {
            severity,
            place: Some(self.document.place(&path::join(&self.prefix, field), part)),
            object: self.object.clone(),
            field: field.to_owned(),
            problem,
            advice,
        }
    }
}

/// The findings about one object. Nothing more is said of a field in error and of what lies below it: it would only
/// repeat the first.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) origin: &'a Origin,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(origin: &'a Origin) -> Self {
        Self {
            origin,
            diagnostics: Vec::new(),
        }
    }

    /// Whether nothing found so far refuses the object.
    pub(crate) fn is_clean(&self) -> bool {
        !self.diagnostics.iter().any(Diagnostic::is_error)
    }

    pub(crate) fn error(&mut self, field: &str, problem: impl Into<String>, advice: impl Into<String>) {
        self.push(Severity::Error, field, Part::Value, problem.into(), advice.into());
    }

    pub(crate) fn warning(&mut self, field: &str, problem: impl Into<String>, advice: impl Into<String>) {
        self.push(Severity::Warning, field, Part::Value, problem.into(), advice.into());
    }

    pub(crate) fn notice(&mut self, field: &str, problem: impl Into<String>, advice: impl Into<String>) {
        self.push(Severity::Notice, field, Part::Value, problem.into(), advice.into());
    }

    /// A warning about the key rather than the value of a field.
    pub(crate) fn key_warning(&mut self, field: &str, problem: impl Into<String>, advice: impl Into<String>) {
        self.push(Severity::Warning, field, Part::Key, problem.into(), advice.into());
    }

    /// An error about a text that is not what it must be. A comment in C's style that became part of the text is
    /// pointed out in place of `advice`.
    pub(crate) fn invalid(&mut self, field: &str, text: &str, must: &str, advice: impl Into<String>) {
        let advice = comment_advice(field, text).unwrap_or_else(|| advice.into());
        self.error(field, format!("{} {must}", quoted(text)), advice);
    }

    fn push(&mut self, severity: Severity, field: &str, part: Part, problem: String, advice: String) {
        let known = |d: &Diagnostic| d.is_error() && !d.field.is_empty() && path::within(field, &d.field);
        if severity == Severity::Notice || !self.diagnostics.iter().any(known) {
            self.diagnostics
                .push(self.origin.point(severity, field, part, problem, advice));
        }
    }
}

/// What to write when `text` is a value followed by a comment in C's style: `8080 // the pods' port`.
pub(crate) fn comment_advice(field: &str, text: &str) -> Option<String> {
    let (value, comment) = text.split_once("//")?;
    let before = value.trim_end();
    if before.len() == value.len() || before.is_empty() {
        return None;
    }
    let key = path::yaml_start(field);
    let comment: String = comment.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(format!(
        "YAML comments start with '#', not '//': write `{key}{before} # {comment}`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_in_the_style_of_c_are_recognised() {
        for (field, text, write) in [
            (
                "spec.ports[0].targetPort",
                "8080 // Port 80",
                Some("`targetPort: 8080 # Port 80`"),
            ),
            ("spec.ports[0].targetPort", "http //x", Some("`targetPort: http # x`")),
            ("spec.clusterIPs[0]", "10.96.0.1 // a", Some("`- 10.96.0.1 # a`")),
            ("spec.externalName", "http://example.org", None),
            ("spec.type", "// ClusterIP", None),
            ("spec.type", "ClusterIP", None),
        ] {
            let advice = comment_advice(field, text);
            assert_eq!(advice.is_some(), write.is_some(), "{text}");
            assert!(
                advice.unwrap_or_default().ends_with(write.unwrap_or_default()),
                "{text}"
            );
        }
    }
}
