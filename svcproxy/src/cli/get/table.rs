//! kubectl's table: columns three blanks apart, `<none>` for nothing.

use std::fmt::{self, Display, Formatter};

/// Rows under a heading.
pub(super) struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table; the columns of a heading are separated by blanks.
    pub(super) fn new(heading: &str) -> Self {
        Self {
            heading: heading.split_whitespace().map(str::to_owned).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row. Empty cells print as `<none>`.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let row = cells
            .into_iter()
            .map(|cell| if cell.is_empty() { "<none>".to_owned() } else { cell });
        self.rows.push(row.collect());
    }

    /// Puts a column before the others, one cell for each row.
    pub(super) fn prepend(&mut self, heading: &str, cells: impl IntoIterator<Item = String>) {
        self.heading.insert(0, heading.to_owned());
        for (row, cell) in self.rows.iter_mut().zip(cells) {
            row.insert(0, cell);
        }
    }

    /// Whether there is no row.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let lines = || std::iter::once(&self.heading).chain(&self.rows);
        let width = |column: usize| lines().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..self.heading.len()).map(width).collect();
        for line in lines() {
            let (last, others) = line.split_last().ok_or(fmt::Error)?;
            for (cell, width) in others.iter().zip(&widths) {
                write!(f, "{cell:width$}   ")?;
            }
            writeln!(f, "{last}")?;
        }
        Ok(())
    }
}
