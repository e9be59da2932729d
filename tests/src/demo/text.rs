//! What the demo reads out of texts, and how it prints what it saw. Pure, but for the printing.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use anyhow::{Context, Result};

/// How often each pod answered.
#[derive(Default)]
pub(super) struct Tally(pub(super) BTreeMap<String, u32>);

impl Tally {
    pub(super) fn total(&self) -> u32 {
        self.0.values().sum()
    }

    pub(super) fn answered_by(&self, pods: &[&str]) -> bool {
        self.0.keys().eq(pods)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, &count) in &self.0 {
            writeln!(f, "    {name:<20} {:<30} {count}", "█".repeat(count as usize))?;
        }
        Ok(())
    }
}

/// The text with another document in place of the one that describes the Pod `name`.
pub(super) fn replace_pod(text: &str, name: &str, document: &str) -> Result<String> {
    let mut documents: Vec<&str> = text.split("---\n").collect();
    let is_pod = |text: &&mut &str| text.contains("kind: Pod") && text.contains(&format!("name: {name}\n"));
    let pod = documents
        .iter_mut()
        .find(is_pod)
        .with_context(|| format!("no Pod {name}"))?;
    *pod = document.trim_start_matches("---\n");
    Ok(documents.join("---\n"))
}

/// The CLUSTER-IP of a Service in the table of `get services`; of two, the first.
pub(super) fn cluster_ip(table: &str, name: &str) -> Option<IpAddr> {
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let header = lines.next()?;
    let name_column = header.iter().position(|&title| title == "NAME")?;
    let ip_column = header.iter().position(|&title| title == "CLUSTER-IP")?;
    let row = lines.find(|row| row.get(name_column) == Some(&name))?;
    row.get(ip_column)?.split(',').next()?.parse().ok()
}

/// Prints text indented, its first `limit` lines.
pub(super) fn quote(text: &str, limit: usize) {
    let count = text.lines().count();
    text.lines().take(limit).for_each(|line| println!("    {line}"));
    if count > limit {
        println!("    … {} more lines", count - limit);
    }
}

pub(super) fn list(items: impl Iterator<Item = impl fmt::Display>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}
