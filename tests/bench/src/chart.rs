//! Results as a picture: a bar for each row, its quartiles as a line, a panel for each thing measured.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};

use crate::report::Row;

/// Sizes in pixels.
const WIDTH: f64 = 960.0;
const LABEL: f64 = 330.0;
const FIGURE: f64 = 90.0;
const BAR: f64 = 16.0;
const HEAD: f64 = 34.0;

/// Bars of svcproxy and of what it is compared with.
const OURS: &str = "#2f6db5";
const OTHERS: &str = "#a9b4c2";

/// Rows of one panel begin with the same word or words.
fn panel(row: &Row) -> Option<(String, String)> {
    let parts: Vec<_> = row.name.split('/').collect();
    let at = match parts[..] {
        ["packets", ..] => 3,
        ["control", _, "steps", ..] => 4,
        ["chain", ..] => 2,
        _ => return None, // milliseconds and megabytes of different sizes share no scale
    };
    let (panel, label) = parts.split_at_checked(at)?;
    let hidden = ["empty", "generator+empty"].iter().any(|hidden| label.contains(hidden));
    (!hidden && !label.is_empty()).then(|| (format!("{}, {}", panel.join(" "), row.unit), label.join(" ")))
}

fn is_ours(row: &Row) -> bool {
    match row.name.split('/').next() {
        Some("chain") => row.name.contains("/auto/") || row.name.contains("/xdp/"),
        _ => !["parse", "floor", "two-inserts"]
            .iter()
            .any(|floor| row.name.ends_with(floor)),
    }
}

/// Writes the picture.
pub(crate) fn write(path: &Path, rows: &[Row]) -> Result<()> {
    fs::write(path, svg(rows)).with_context(|| format!("cannot write {}", path.display()))
}

fn svg(rows: &[Row]) -> String {
    let mut panels: BTreeMap<String, Vec<(String, &Row)>> = BTreeMap::new();
    for row in rows {
        if let Some((panel, label)) = panel(row) {
            panels.entry(panel).or_default().push((label, row));
        }
    }
    let mut body = String::new();
    let mut y = 0.0;
    for (title, rows) in &panels {
        let most = rows
            .iter()
            .map(|(_, row)| row.value.high)
            .fold(0.0, f64::max)
            .max(f64::MIN_POSITIVE);
        let scale = (WIDTH - LABEL - FIGURE) / most;
        y += HEAD;
        let _ = writeln!(
            body,
            r#"<text x="8" y="{:.0}" font-weight="bold">{title}</text>"#,
            y - 8.0
        );
        for (label, row) in rows {
            let value = row.value;
            let colour = if is_ours(row) { OURS } else { OTHERS };
            let middle = y + BAR / 2.0;
            let _ = writeln!(
                body,
                r##"<text x="{:.0}" y="{:.1}" text-anchor="end">{label}</text><rect x="{LABEL}" y="{:.1}" width="{:.1}" height="{:.1}" fill="{colour}"/><line x1="{:.1}" x2="{:.1}" y1="{middle:.1}" y2="{middle:.1}" stroke="#222"/><text x="{:.1}" y="{:.1}">{:.1}</text>"##,
                LABEL - 6.0,
                y + BAR - 4.0,
                y + 1.0,
                (value.median * scale).max(0.0),
                BAR - 3.0,
                LABEL + value.low * scale,
                LABEL + value.high * scale,
                LABEL + value.high * scale + 6.0,
                y + BAR - 4.0,
                value.median,
            );
            y += BAR;
        }
    }
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {:.0}" font-family="sans-serif" font-size="11">
<rect width="100%" height="100%" fill="white"/>
{body}</svg>
"#,
        y + 12.0
    )
}
