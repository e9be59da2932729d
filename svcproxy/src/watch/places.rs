//! The directories in which a path can be made to lead elsewhere, and the names there that do it.
//!
//! In come paths, out go directories to listen to: for every input the one its last component is in, for every symlink
//! on the way to it the one that the symlink is in, and of a directory of manifests itself. What is missing is awaited
//! in the deepest directory there is.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs,
    path::{Component, Path, PathBuf},
};

use crate::manifest;

/// As many symlinks as the kernel follows (`MAXSYMLINKS`).
const SYMLINKS: usize = 40;

/// What to listen to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    directories: BTreeMap<PathBuf, Names>,
    /// Where the inputs, and the symlinks in directories of manifests, lead; by how they are read.
    ends: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

/// What matters in one directory.
#[derive(Debug, Default, PartialEq, Eq)]
struct Names {
    these: BTreeSet<OsString>,
    manifests: bool,
}

impl Places {
    /// Those of the inputs as the file system is now.
    pub(super) fn of(inputs: &[PathBuf]) -> Self {
        let mut places = Self::default();
        for input in inputs {
            let Some(end) = places.reach(input) else {
                continue;
            };
            let Ok(entries) = fs::read_dir(&end) else {
                continue; // a file
            };
            places.directories.entry(end).or_default().manifests = true;
            for entry in entries.flatten() {
                let is_symlink = entry.file_type().is_ok_and(|kind| kind.is_symlink());
                if is_symlink && manifest::is_manifest_name(&entry.path()) {
                    places.reach(&input.join(entry.file_name()));
                }
            }
        }
        places
    }

    /// The directories.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.directories.keys().map(PathBuf::as_path)
    }

    /// Whether a directory is among them.
    pub(super) fn has(&self, directory: &Path) -> bool {
        self.directories.contains_key(directory)
    }

    /// Whether a change of a path matters: of a directory itself, or of a name in it.
    pub(super) fn concern(&self, path: &Path) -> bool {
        let names = path.parent().and_then(|parent| self.directories.get(parent));
        let name = path.file_name().unwrap_or_default();
        self.has(path) || names.is_some_and(|names| names.include(name))
    }

    /// The names by which the file at a path is read; `None` when it is not a file that a change of it is all there is
    /// to.
    pub(super) fn names(&self, path: &Path) -> Option<BTreeSet<PathBuf>> {
        if self.has(path) {
            return None;
        }
        let mut names = self.ends.get(path).cloned().unwrap_or_default();
        let name = path
            .file_name()
            .filter(|name| manifest::is_manifest_name(Path::new(name)));
        if let (Some(inputs), Some(name)) = (self.ends.get(path.parent()?), name) {
            names.extend(inputs.iter().map(|input| input.join(name)));
        }
        Some(names).filter(|names| !names.is_empty())
    }

    /// [`follow`](Self::follow), and remembers what led there.
    fn reach(&mut self, path: &Path) -> Option<PathBuf> {
        let end = self.follow(path)?;
        self.ends.entry(end.clone()).or_default().insert(path.to_owned());
        Some(end)
    }

    /// Notes every place on the way to where a path leads, and returns that; `None` when it leads nowhere.
    fn follow(&mut self, path: &Path) -> Option<PathBuf> {
        let absolute = std::path::absolute(path).ok()?;
        // The steps yet to go, the next one last.
        let mut steps = steps(&absolute);
        let mut at = PathBuf::from("/");
        let mut symlinks = 0;
        while let Some(step) = steps.pop() {
            if step == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&step);
            match fs::symlink_metadata(&next) {
                Err(_) => {
                    self.note(&at, step);
                    return None;
                }
                Ok(metadata) if metadata.is_symlink() => {
                    self.note(&at, step);
                    symlinks += 1;
                    let target = fs::read_link(&next).ok().filter(|_| symlinks <= SYMLINKS)?;
                    if target.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    steps.extend(self::steps(&target));
                }
                Ok(_) => {
                    if steps.is_empty() {
                        self.note(&at, step);
                    }
                    at = next;
                }
            }
        }
        Some(at)
    }

    fn note(&mut self, directory: &Path, name: OsString) {
        self.directories
            .entry(directory.to_owned())
            .or_default()
            .these
            .insert(name);
    }
}

impl Names {
    fn include(&self, name: &OsStr) -> bool {
        self.these.contains(name) || (self.manifests && manifest::is_manifest_name(Path::new(name)))
    }
}

/// The components of a path that go somewhere, the first one last.
fn steps(path: &Path) -> Vec<OsString> {
    let steps = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    let mut steps: Vec<_> = steps.collect();
    steps.reverse();
    steps
}
