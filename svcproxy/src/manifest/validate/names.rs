//! Kubernetes' rules for names, as in its `apimachinery/pkg/util/validation`.

use super::Report;

/// Name of a Service: it becomes a DNS label of the old kind.
pub(crate) fn dns_1035_label(field: &str, name: &str, report: &mut Report<'_>) {
    if !(is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase())) {
        report.invalid(
            field,
            name,
            "is not a DNS-1035 label",
            "use at most 63 of a-z, 0-9 and '-', with a letter first and no '-' at the end",
        );
    }
}

/// Name of a namespace or of a port.
pub(crate) fn dns_1123_label(field: &str, name: &str, report: &mut Report<'_>) {
    if !is_label(name) {
        report.invalid(
            field,
            name,
            "is not a DNS-1123 label",
            "use at most 63 of a-z, 0-9 and '-', with no '-' at either end",
        );
    }
}

/// Name of any other object.
pub(crate) fn dns_1123_subdomain(field: &str, name: &str, report: &mut Report<'_>) {
    if name.len() > 253 || !name.split('.').all(|part| is_label_of(part, 253)) {
        report.invalid(
            field,
            name,
            "is not a DNS-1123 subdomain",
            "use at most 253 of a-z, 0-9, '-' and '.', with a letter or digit at both ends of each part",
        );
    }
}

/// Why `name` cannot name a container's port (IANA_SVC_NAME), if it cannot.
pub(crate) fn port_name_error(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > 15 {
        Some("use 1 to 15 characters")
    } else if !name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        Some("use a-z, 0-9 and '-'")
    } else if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        Some("use at least one letter")
    } else if name.starts_with('-') || name.ends_with('-') || name.contains("--") {
        Some("use '-' between letters or digits only")
    } else {
        None
    }
}

/// Value of a label or of a selector's entry.
pub(crate) fn label_value(field: &str, value: &str, report: &mut Report<'_>) {
    let end = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let inner = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if value.len() > 63 || !inner || !end(value.chars().next()) || !end(value.chars().next_back()) {
        report.invalid(
            field,
            value,
            "is not a label value",
            "use at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends",
        );
    }
}

fn is_label(name: &str) -> bool {
    is_label_of(name, 63)
}

fn is_label_of(name: &str, longest: usize) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=longest).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_names_follow_iana() {
        for (name, valid) in [
            ("http", true),
            ("8080-x", true),
            ("a", true),
            ("a234567890-12345", false),
            ("8080", false),
            ("", false),
            ("Http", false),
            ("-http", false),
            ("ht--tp", false),
            ("http_2", false),
        ] {
            assert_eq!(port_name_error(name).is_none(), valid, "{name}");
        }
    }

    #[test]
    fn labels_are_bounded_at_both_ends() {
        for (name, valid) in [
            ("kubia", true),
            ("0kubia", true),
            ("-kubia", false),
            ("kubia-", false),
            ("Kubia", false),
            ("a.b", false),
        ] {
            assert_eq!(is_label(name), valid, "{name}");
        }
        assert!(is_label(&"a".repeat(63)) && !is_label(&"a".repeat(64)));
    }
}
