//! Field paths: `spec.ports[0].targetPort`, keys that are not plain words quoted as in `metadata.labels["a/b"]`.

/// The path of the field `key` of the mapping at `parent`.
pub(crate) fn key(parent: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    match (parent.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{parent}.{key}"),
        (_, false) => format!("{parent}[{key:?}]"),
    }
}

/// The path of entry `index` of the list at `parent`.
pub(crate) fn index(parent: &str, index: usize) -> String {
    format!("{parent}[{index}]")
}

/// A path below a prefix, either of which may be empty.
pub(crate) fn join(prefix: &str, path: &str) -> String {
    if prefix.is_empty() || path.is_empty() || path.starts_with('[') {
        format!("{prefix}{path}")
    } else {
        format!("{prefix}.{path}")
    }
}

/// The path without its last step; `None` for the empty path.
pub(crate) fn parent(path: &str) -> Option<&str> {
    let end = path.rfind(['.', '[']).unwrap_or(0);
    (!path.is_empty()).then(|| &path[..end])
}

/// What stands before the value at `path` in YAML: `port: `, or `- ` for an entry of a list.
pub(crate) fn yaml_start(path: &str) -> String {
    let quoted = path.strip_suffix("\"]").and_then(|path| path.rsplit_once("[\""));
    match quoted.map_or_else(|| path.rsplit('.').next().unwrap_or(path), |(_, key)| key) {
        entry if entry.ends_with(']') => "- ".to_owned(),
        key => format!("{key}: "),
    }
}

/// The path with every list index left out: `spec.ports[].port`.
pub(crate) fn without_indices(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    let mut digits = false;
    for c in path.chars() {
        digits = c == '[' || (digits && c.is_ascii_digit());
        if !digits || c == '[' {
            pattern.push(c);
        }
    }
    pattern
}

/// Whether `path` is `ancestor` or lies below it.
pub(crate) fn within(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor)
        .is_some_and(|rest| ancestor.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_people_write_them() {
        assert_eq!(key(&index(&key("spec", "ports"), 0), "port"), "spec.ports[0].port");
        assert_eq!(key("metadata.labels", "a.b/c"), r#"metadata.labels["a.b/c"]"#);
        assert_eq!(join("items[2]", "spec"), "items[2].spec");
        assert_eq!(join("items[2]", ""), "items[2]");
        assert_eq!(without_indices("spec.ports[12].port"), "spec.ports[].port");
        assert_eq!(without_indices(r#"labels["a1"]"#), r#"labels["a1"]"#);
        assert_eq!(yaml_start("spec.ports[0].port"), "port: ");
        assert_eq!(yaml_start("spec.ports[0]"), "- ");
        assert_eq!(yaml_start(r#"metadata.labels["a.b/c"]"#), "a.b/c: ");
    }

    #[test]
    fn ancestors_end_at_the_root() {
        let mut path = "spec.ports[0].port";
        let mut seen = vec![path];
        while let Some(up) = parent(path) {
            seen.push(up);
            path = up;
        }
        assert_eq!(seen, ["spec.ports[0].port", "spec.ports[0]", "spec.ports", "spec", ""]);
    }

    #[test]
    fn ancestry_respects_steps() {
        assert!(within("spec.ports", "spec"));
        assert!(within("spec.ports[].port", "spec.ports"));
        assert!(within("spec", ""));
        assert!(!within("spec", "spec.ports"));
        assert!(!within("status.podIPs", "status.podIP"));
    }
}
