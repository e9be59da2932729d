//! The text of an input: held while it is read, and read again where something is to be said of it later.
//!
//! Texts are several times as large as what they say, and for most of them there is nothing to say.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{Source, input};

/// A text that documents are parts of.
#[derive(Debug)]
pub(crate) struct Text {
    /// The input as messages name it.
    pub(crate) name: String,
    kept: Mutex<Kept>,
}

#[derive(Debug, Clone)]
enum Kept {
    Here(Arc<str>),
    /// In the file of this path, as long as the text there has this hash.
    OnDisk(PathBuf, u64),
}

impl Text {
    pub(crate) fn of(source: &Source) -> Self {
        Self {
            name: source.name.clone(),
            kept: Mutex::new(Kept::Here(source.text.as_str().into())),
        }
    }

    /// Leaves the text to its file, where it has this hash.
    pub(crate) fn release(&self, path: &Path, hash: u64) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*kept, Kept::Here(_)) {
            *kept = Kept::OnDisk(path.to_owned(), hash);
        }
    }

    /// What a function makes of some bytes of the text; `None` when that is not in its file any more, so that a newer one
    /// is about to be read.
    pub(crate) fn part<T>(&self, range: &Range<usize>, function: impl FnOnce(&str) -> T) -> Option<T> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = match kept {
            Kept::Here(text) => text,
            Kept::OnDisk(path, hash) => {
                let source = input::read(&path).ok().filter(|source| source.hash() == hash)?;
                source.text.into()
            }
        };
        text.get(range.clone()).map(function)
    }
}
