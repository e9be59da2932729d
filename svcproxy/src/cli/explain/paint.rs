//! Colour, for a terminal only.

use std::{
    env,
    fmt::{self, Display},
    io::{self, IsTerminal as _},
};

use crate::conformance::Verdict;

/// Whether to paint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    on: bool,
}

/// A text with its colour.
pub(super) struct Painted<T> {
    text: T,
    code: Option<&'static str>,
}

impl Paint {
    /// Plain text.
    #[cfg(test)]
    pub(super) const PLAIN: Self = Self { on: false };
    /// Colours.
    #[cfg(test)]
    pub(super) const COLOURS: Self = Self { on: true };

    /// Colour when standard output is a terminal, and NO_COLOR (no-color.org) is not set.
    pub(super) fn for_stdout() -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            on: io::stdout().is_terminal() && !refused,
        }
    }

    pub(super) fn bold<T>(self, text: T) -> Painted<T> {
        self.with("1", text)
    }

    pub(super) fn dim<T>(self, text: T) -> Painted<T> {
        self.with("2", text)
    }

    pub(super) fn green<T>(self, text: T) -> Painted<T> {
        self.with("32", text)
    }

    /// A verdict in its colour.
    pub(super) fn verdict<T>(self, verdict: &str, text: T) -> Painted<T> {
        let code = match verdict {
            _ if verdict == Verdict::Forward.name() => "1;32",
            _ if verdict == Verdict::Pass.name() => "1;36",
            _ => "1;31",
        };
        self.with(code, text)
    }

    fn with<T>(self, code: &'static str, text: T) -> Painted<T> {
        Painted {
            text,
            code: self.on.then_some(code),
        }
    }
}

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            None => self.text.fmt(f),
            Some(code) => {
                write!(f, "\x1b[{code}m")?;
                self.text.fmt(f)?;
                f.write_str("\x1b[0m")
            }
        }
    }
}
