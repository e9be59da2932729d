//! Where each field stands in a document: field path → line and column.
//!
//! Built once per document and only when something is to be reported. A text that the scanner here reads differently
//! from the YAML parser costs precision (the nearest known ancestor is named), never more.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser};

use super::path;

/// Line and column, both from 1, within one document.
pub(crate) type Position = (usize, usize);

/// The position of the character of that number. Both YAML scanners also break lines where editors do not; only their
/// count of characters can be relied on.
pub(crate) fn of_character(text: &str, number: usize) -> Position {
    let before = text.chars().take(number);
    before.fold(
        (1, 1),
        |(line, column), c| if c == '\n' { (line + 1, 1) } else { (line, column + 1) },
    )
}

/// Positions of every key and value of one document.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    keys: HashMap<String, Position>,
    values: HashMap<String, Position>,
    duplicate: Option<Position>,
    /// Number of the first character of each line.
    line_starts: Vec<usize>,
}

/// A collection the scanner is inside of.
enum Open {
    /// A mapping, with the path of the value that comes next once its key was read.
    Mapping { at: String, value: Option<String> },
    /// A sequence, with the index of the entry that comes next.
    Sequence { at: String, next: usize },
}

impl Positions {
    /// Scans a document.
    pub(crate) fn of(text: &str) -> Self {
        let starts = text
            .chars()
            .enumerate()
            .filter(|(_, c)| *c == '\n')
            .map(|(number, _)| number + 1);
        let mut positions = Self {
            line_starts: std::iter::once(0).chain(starts).collect(),
            ..Self::default()
        };
        let mut open: Vec<Open> = Vec::new();
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { break };
            match event {
                Event::Scalar(text, ..) => {
                    positions.enter(&mut open, Some(&text), span.start);
                }
                Event::Alias(_) => {
                    positions.enter(&mut open, None, span.start);
                }
                Event::MappingStart(..) => {
                    let at = positions.enter(&mut open, None, span.start);
                    open.push(Open::Mapping { at, value: None });
                }
                Event::SequenceStart(..) => {
                    let at = positions.enter(&mut open, None, span.start);
                    open.push(Open::Sequence { at, next: 0 });
                }
                Event::MappingEnd | Event::SequenceEnd => {
                    open.pop();
                }
                Event::DocumentEnd => break,
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
            }
        }
        positions
    }

    /// Notes a node that starts at `mark` and returns its path; a scalar's text makes it the key where a key is due.
    fn enter(&mut self, open: &mut [Open], scalar: Option<&str>, mark: Marker) -> String {
        let line = self.line_starts.partition_point(|start| *start <= mark.index());
        let position = (line, mark.index() - self.line_starts[line - 1] + 1);
        let at = match open.last_mut() {
            None => String::new(),
            Some(Open::Sequence { at, next }) => {
                *next += 1;
                path::index(at, *next - 1)
            }
            Some(Open::Mapping { at, value }) => match value.take() {
                Some(path) => path,
                None => {
                    let path = path::key(at, scalar.unwrap_or("?"));
                    if self.keys.insert(path.clone(), position).is_some() {
                        self.duplicate.get_or_insert(position);
                    }
                    *value = Some(path.clone());
                    return path;
                }
            },
        };
        self.values.insert(at.clone(), position);
        at
    }

    /// Where the value at `path` stands, or its key when the value is not there, or the nearest ancestor.
    pub(crate) fn value(&self, path: &str) -> Option<Position> {
        let found = self.values.get(path).or_else(|| self.keys.get(path));
        found.copied().or_else(|| self.value(path::parent(path)?))
    }

    /// Where a key stands that its mapping has had before.
    pub(crate) fn duplicate(&self) -> Option<Position> {
        self.duplicate
    }

    /// Where the key at `path` stands, or what [`Self::value`] finds.
    pub(crate) fn key(&self, path: &str) -> Option<Position> {
        self.keys.get(path).copied().or_else(|| self.value(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "---\nkind: Service\nspec:\n  ports:\n    -\n      port: 80\n    - {name: x, port: 81}\n  selector: {a/b: c}\n";

    #[test]
    fn keys_and_values_are_found() {
        let positions = Positions::of(TEXT);
        let value = |path| positions.value(path).unwrap();
        assert_eq!(value(""), (2, 1));
        assert_eq!(value("kind"), (2, 7));
        assert_eq!(value("spec.ports[0].port"), (6, 13));
        assert_eq!(value("spec.ports[1].port"), (7, 23));
        assert_eq!(value(r#"spec.selector["a/b"]"#), (8, 19));
        assert_eq!(positions.key("spec.ports[0].port"), Some((6, 7)));
    }

    #[test]
    fn what_is_missing_is_placed_at_its_nearest_ancestor() {
        let positions = Positions::of(TEXT);
        assert_eq!(positions.value("metadata.name"), Some((2, 1)));
        assert_eq!(positions.value("spec.ports[0].targetPort"), Some((6, 7)));
        assert_eq!(Positions::of("").value("spec"), None);
    }
}
