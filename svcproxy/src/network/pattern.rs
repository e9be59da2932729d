//! What `--iface` says: names of interfaces, as `eth0`, `eth*` or, as iptables writes it, `eth+`.

use std::{convert::Infallible, fmt, str::FromStr};

use super::Link;

/// The name of one interface, or a pattern for several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfacePattern(String);

impl FromStr for InterfacePattern {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl InterfacePattern {
    /// Whether it is for an interface. A pattern never is for the loopback; its name is.
    pub fn matches(&self, link: &Link) -> bool {
        if self.0 == link.name {
            return true;
        }
        let start = self.0.strip_suffix('+');
        let found = match start {
            Some(start) => link.name.starts_with(start),
            None => self.0.contains('*') && matches(self.0.as_bytes(), link.name.as_bytes()),
        };
        found && !link.loopback
    }

    /// Whether it names one interface, which is missed when it is not there.
    pub fn is_name(&self) -> bool {
        !self.0.contains('*') && !self.0.ends_with('+')
    }
}

/// Whether a name is what a pattern says, in which `*` stands for any characters.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'*', rest @ ..] => (0..=name.len()).any(|skipped| matches(rest, &name[skipped..])),
        [first, rest @ ..] => name.first() == Some(first) && matches(rest, &name[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns() {
        let cases = [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth*", "eth0", true),
            ("eth*", "eth0.100", true),
            ("eth*", "veth0", false),
            ("*.100", "eth0.100", true),
            ("en*s*", "enp0s3", true),
            ("veth+", "veth1a2b", true),
            ("veth+", "eth0", false),
            ("*", "eth0", true),
            ("*", "lo", false),
            ("+", "lo", false),
            ("lo", "lo", true),
        ];
        for (pattern, name, expected) in cases {
            let link = Link {
                name: name.to_owned(),
                loopback: name == "lo",
                ..Link::default()
            };
            let pattern: InterfacePattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(&link), expected, "{pattern} {name}");
        }
    }
}
