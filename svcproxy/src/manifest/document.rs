//! Text to documents: one YAML stream or a run of JSON values in, each document as a JSON value out.
//!
//! A stream is cut at its `---` lines before anything is parsed, so that a syntax error in one document does not hide
//! what is wrong with the next.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use serde_json::Value;

use super::{
    Source,
    diagnostic::{Diagnostic, Place, Severity},
    position::Positions,
    text::Text,
    yaml::{self, At, SyntaxError},
};

/// One document and where it stands in its file.
#[derive(Debug)]
pub(crate) struct Document {
    /// The text of the file.
    text: Arc<Text>,
    /// The bytes of it that are the document's.
    range: Range<usize>,
    /// Number within the file, from 1.
    number: usize,
    /// Documents in the file.
    count: usize,
    /// Lines of the file before this document.
    lines_before: usize,
    /// Characters before it on its first line.
    columns_before: usize,
    positions: OnceLock<Box<Positions>>,
}

/// Which part of a field a diagnostic points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Key,
    Value,
}

impl Document {
    /// The place of a field, or of the nearest ancestor that exists.
    pub(crate) fn place(&self, path: &str, part: Part) -> Place {
        let (line, column) = match part {
            Part::Key => self.positions().key(path),
            Part::Value => self.positions().value(path),
        }
        .unwrap_or((1, 1));
        self.absolute(line, column)
    }

    fn absolute(&self, line: usize, column: usize) -> Place {
        let shift = if line == 1 { self.columns_before } else { 0 };
        Place {
            file: self.text.name.clone(),
            line: line + self.lines_before,
            column: column + shift,
            document: self.number,
            documents: self.count,
        }
    }

    /// Parses the text as YAML, of which JSON is a part; but a JSON file's errors are JSON's.
    fn parse(&self, text: &str) -> Result<Value, SyntaxError> {
        yaml::value(text, self.lines_before).map_err(|error| {
            let is_json = self.text.name.ends_with(".json");
            let json = is_json.then(|| yaml::json_error(text, self.lines_before));
            json.flatten().unwrap_or(error)
        })
    }

    fn positions(&self) -> &Positions {
        self.positions.get_or_init(|| {
            let positions = self.text.part(&self.range, Positions::of);
            Box::new(positions.unwrap_or_default())
        })
    }

    fn unreadable(&self, error: SyntaxError) -> Diagnostic {
        let place = match error.at {
            At::Field(path) => self.place(&path, Part::Value),
            At::DuplicateKey => {
                let (line, column) = self.positions().duplicate().unwrap_or((1, 1));
                self.absolute(line, column)
            }
            At::Position(line, column) => Place {
                line,
                column: column.max(1),
                ..self.absolute(1, 1)
            },
        };
        Diagnostic {
            place: Some(place),
            ..Diagnostic::placeless(Severity::Error, error.problem, error.advice)
        }
    }
}

/// A document and its value, or why it has none.
pub(crate) type Parsed = (Arc<Document>, Result<Value, Diagnostic>);

/// Every document of a source that is not empty; `shared` is its text.
pub(crate) fn documents(source: &Source, shared: &Arc<Text>) -> Vec<Parsed> {
    let text = source.text.strip_prefix('\u{feff}').unwrap_or(&source.text);
    let mut chunks = Vec::new();
    for chunk in split(text) {
        match json_values(&chunk) {
            Some(values) => chunks.extend(values.into_iter().map(|(chunk, value)| (chunk, Some(value)))),
            None => chunks.push((chunk, None)),
        }
    }
    let count = chunks.len();
    let parse = |(number, (chunk, value)): (usize, (Chunk<'_>, Option<Value>))| {
        let start = chunk.text.as_ptr().addr() - source.text.as_ptr().addr();
        let document = Document {
            text: Arc::clone(shared),
            range: start..start + chunk.text.len(),
            number: number + 1,
            count,
            lines_before: chunk.lines_before,
            columns_before: chunk.columns_before,
            positions: OnceLock::new(),
        };
        let value = match value {
            Some(value) => Ok(value),
            None => document.parse(chunk.text).map_err(|error| document.unreadable(error)),
        };
        (Arc::new(document), value)
    };
    chunks.into_iter().enumerate().map(parse).collect()
}

/// A part of a file's text and where it starts.
#[derive(Clone, Copy)]
struct Chunk<'a> {
    text: &'a str,
    lines_before: usize,
    columns_before: usize,
}

/// Cuts a stream before each `---` and after each `...`, and drops what has no content.
fn split(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut end, mut first_line) = (0, 0, 0);
    let mut close = |start: usize, end: usize, lines_before: usize| {
        let text = &text[start..end];
        if text.lines().any(has_content) {
            chunks.push(Chunk {
                text,
                lines_before,
                columns_before: 0,
            });
        }
    };
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if is_marker(line, "---") {
            close(start, end, first_line);
            (start, first_line) = (end, number);
        }
        end += line.len();
        if is_marker(line, "...") {
            close(start, end, first_line);
            (start, first_line) = (end, number + 1);
        }
    }
    close(start, end, first_line);
    chunks
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether a line is more than a marker, a directive, a comment or blank.
fn has_content(line: &str) -> bool {
    let rest = ["---", "..."]
        .iter()
        .find(|m| is_marker(line, m))
        .map_or(line, |m| &line[m.len()..]);
    let rest = rest.trim();
    !(rest.is_empty() || rest.starts_with('#') || line.starts_with('%'))
}

/// The JSON values a chunk consists of; `None` when it is not JSON throughout and the YAML parser is to judge it.
fn json_values<'a>(chunk: &Chunk<'a>) -> Option<Vec<(Chunk<'a>, Value)>> {
    if !chunk.text.trim_start().starts_with('{') {
        return None;
    }
    let mut stream = serde_json::Deserializer::from_str(chunk.text).into_iter::<Value>();
    let mut values = Vec::new();
    let (mut start, mut lines_before, mut columns_before) = (0, chunk.lines_before, chunk.columns_before);
    while let Some(value) = stream.next() {
        let end = stream.byte_offset();
        let text = chunk.text.get(start..end)?;
        values.push((
            Chunk {
                text,
                lines_before,
                columns_before,
            },
            value.ok()?,
        ));
        lines_before += text.matches('\n').count();
        columns_before = match text.rfind('\n') {
            Some(newline) => text[newline + 1..].chars().count(),
            None => columns_before + text.chars().count(),
        };
        start = end;
    }
    Some(values)
}
