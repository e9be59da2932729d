//! The manifests of `manifests/examples`, and the pods that they speak of.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::topology::PodSpec;

/// Each example's file and text, in alphabetical order.
pub fn files() -> Result<Vec<(String, String)>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .with_file_name("manifests")
        .join("examples");
    let entries = fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".yaml") {
            files.push((name, fs::read_to_string(entry.path())?));
        }
    }
    files.sort();
    Ok(files)
}

/// The pods of all examples, at the addresses the manifests give them.
pub fn pods() -> Vec<PodSpec> {
    let groups = [
        ("kubia", 10, 3),
        ("kubia-affinity", 20, 3),
        ("kubia-ports", 30, 3),
        ("kubia-named-ports", 40, 2),
        ("external", 50, 2),
    ];
    let numbered = groups.into_iter().flat_map(|(name, base, count)| {
        (1..=count).map(move |number| PodSpec::new(&format!("{name}-{number}"), base + number))
    });
    let mut pods: Vec<_> = numbered.collect();
    for pod in &mut pods {
        if pod.name == "kubia-named-ports-2" {
            pod.ports = vec![9080, 9443];
        }
    }
    pods
}
