//! Results: rows with a median and its spread, as a table and as JSON.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

/// Many samples of one thing.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    /// The quartiles.
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) samples: usize,
}

impl Summary {
    /// Of at least one sample.
    pub(crate) fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| sorted[((sorted.len() - 1) as f64 * part).round() as usize];
        Self {
            median: at(0.5),
            low: at(0.25),
            high: at(0.75),
            samples: sorted.len(),
        }
    }
}

/// The samples of a result to be.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) samples: Vec<f64>,
    /// The name of the result it is divided by, and its samples, each taken next to one of these.
    pub(crate) versus: Option<(String, Vec<f64>)>,
}

impl Series {
    /// Adds samples of the same thing from elsewhere.
    pub(crate) fn extend(&mut self, other: Self) {
        assert_eq!(self.name, other.name);
        self.samples.extend(other.samples);
        if let (Some((_, own)), Some((_, others))) = (&mut self.versus, other.versus) {
            own.extend(others);
        }
    }

    /// The result: its comparison is of each sample with the one that was taken next to it.
    pub(crate) fn row(&self) -> Row {
        let versus = self.versus.as_ref().map(|(name, others)| {
            let ratios: Vec<_> = self
                .samples
                .iter()
                .zip(others)
                .map(|(own, other)| own / other)
                .collect();
            Versus {
                name: name.clone(),
                ratio: Summary::of(&ratios),
            }
        });
        Row {
            versus,
            ..Row::new(self.name.clone(), self.unit, Summary::of(&self.samples))
        }
    }
}

/// One result.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// Its path: part, hook, family, what, how many.
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    #[serde(flatten)]
    pub(crate) value: Summary,
    /// In the same turns, sample by sample.
    pub(crate) versus: Option<Versus>,
}

/// A comparison.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Versus {
    /// The row that this one is divided by.
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) ratio: Summary,
}

impl Row {
    pub(crate) fn new(name: String, unit: &'static str, value: Summary) -> Self {
        Self {
            name,
            unit,
            value,
            versus: None,
        }
    }
}

/// Every result, for people.
pub(crate) fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut text = format!("{:width$}  {:>10}  {:>21}  unit    ratio\n", "", "median", "quartiles");
    for row in rows {
        let Summary { median, low, high, .. } = row.value;
        let quartiles = format!("{} … {}", number(low), number(high));
        let _ = write!(
            text,
            "{:width$}  {:>10}  {quartiles:>21}  {:<6}",
            row.name,
            number(median),
            row.unit
        );
        if let Some(Versus { name, ratio }) = &row.versus {
            let _ = write!(
                text,
                "  {:.2} ({:.2} … {:.2}) × {name}",
                ratio.median, ratio.low, ratio.high
            );
        }
        text.push('\n');
    }
    text
}

/// Three or more digits.
fn number(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude < 10.0 => format!("{value:.2}"),
        magnitude if magnitude < 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Writes every result and what was measured on.
pub(crate) fn write_json(path: &Path, machine: &impl Serialize, rows: &[Row]) -> Result<()> {
    let report = serde_json::json!({ "machine": machine, "rows": rows });
    fs::write(path, serde_json::to_string_pretty(&report)?).with_context(|| format!("cannot write {}", path.display()))
}
