//! Manifests that are read time and again: what has not changed since the last time is not parsed anew.
//!
//! In come the inputs, out goes what [`parse`](super::parse) would make of all their texts. A file whose time stamp says
//! that it is the same is not even opened. One that has just changed may change again within the same tick of the
//! clock, so it is read the next time, and parsed only if the text differs.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    panic,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::{
    Diagnostic, Loaded, Source,
    input::{self, Stamp},
    object::{Collector, Parsed},
    together,
};

/// What has been read of each file.
#[derive(Debug, Default)]
pub struct Library {
    files: HashMap<PathBuf, File>,
    /// How many objects have a name, by its hash.
    names: HashMap<u64, u32>,
}

/// What may have changed since the last reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// These files, by the names they are read by, and nothing else that is complete.
    Files(BTreeSet<PathBuf>),
    /// Nobody knows which; time stamps tell.
    Anything,
    /// Perhaps all of them, and time stamps may be old, as those of NFS are for some seconds: each is to be opened.
    Everything,
}

impl Changed {
    /// The one change and the other.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Files(mut files), Self::Files(others)) => {
                files.extend(others);
                Self::Files(files)
            }
            _ => Self::Anything,
        }
    }

    fn concerns(&self, path: &Path) -> bool {
        match self {
            Self::Files(files) => files.contains(path),
            Self::Anything | Self::Everything => true,
        }
    }
}

/// What a file said when it was last read.
#[derive(Debug)]
struct File {
    /// `None` when it must be read again.
    stamp: Option<Stamp>,
    /// Hash of the text; `None` when it could not be read.
    text: Option<u64>,
    parsed: Result<Parsed, Diagnostic>,
}

impl File {
    fn names(&self) -> &[u64] {
        self.parsed.as_ref().map_or(&[], |parsed| &parsed.names)
    }
}

impl Library {
    /// Reads every input: files, the `*.yaml`, `*.yml` and `*.json` of directories, `-` for standard input. Where it is
    /// known which files have changed, others are taken as they were: they may be half written.
    pub fn load(&mut self, filenames: &[PathBuf], changed: &Changed) -> Loaded {
        let (mut paths, mut unreadable) = input::list(filenames);
        paths.retain(|path| self.files.contains_key(path) || changed.concerns(path));
        let stale: Vec<_> = paths.iter().filter_map(|path| self.is_stale(path, changed)).collect();
        let read = in_parallel(&stale, |(path, stamp)| self.read(path, *stamp));
        for ((path, stamp), file) in stale.into_iter().zip(read) {
            match file {
                Some(file) => self.replace(path, Some(file)),
                None => drop(self.files.get_mut(path).map(|file| file.stamp = stamp)),
            }
        }
        let listed: HashSet<_> = paths.iter().collect();
        let gone: Vec<_> = self
            .files
            .keys()
            .filter(|path| !listed.contains(path))
            .cloned()
            .collect();
        for path in gone {
            self.replace(&path, None);
        }
        if listed.len() < paths.len() || self.names.values().any(|count| *count > 1) {
            return all(&paths, unreadable);
        }
        let files = || paths.iter().filter_map(|path| self.files.get(path));
        unreadable.extend(files().filter_map(|file| file.parsed.as_ref().err()).cloned());
        Loaded::of(files().filter_map(|file| file.parsed.as_ref().ok()), unreadable)
    }

    /// Keeps texts no longer: what is said later of a file has its place looked up there.
    pub fn release_texts(&self) {
        for (path, file) in &self.files {
            if let (Ok(parsed), Some(hash)) = (&file.parsed, file.text) {
                parsed.text.release(path, hash);
            }
        }
    }

    /// A file that must be read, with its stamp as it is now.
    fn is_stale<'p>(&self, path: &'p PathBuf, changed: &Changed) -> Option<(&'p PathBuf, Option<Stamp>)> {
        let known = self.files.get(path);
        if known.is_some_and(|file| file.parsed.is_ok()) && !changed.concerns(path) {
            return None;
        }
        let stamp = Stamp::of(path);
        let known = known.and_then(|file| file.stamp);
        let is_same = stamp.is_some() && known == stamp && *changed != Changed::Everything;
        (!is_same).then_some((path, stamp))
    }

    /// What a file says; `None` when it is what it said before.
    fn read(&self, path: &Path, stamp: Option<Stamp>) -> Option<File> {
        let source = match input::read(path) {
            Ok(source) => source,
            Err(diagnostic) => {
                return Some(File {
                    stamp: None,
                    text: None,
                    parsed: Err(*diagnostic),
                });
            }
        };
        let text = Some(source.hash());
        let is_known = self.files.get(path).is_some_and(|file| file.text == text);
        (!is_known).then(|| File {
            stamp,
            text,
            parsed: Ok(Collector::default().source(&source)),
        })
    }

    /// Puts what a file says now in the place of what it said before.
    fn replace(&mut self, path: &Path, file: Option<File>) {
        for name in file.iter().flat_map(File::names) {
            *self.names.entry(*name).or_default() += 1;
        }
        let before = match file {
            Some(file) => self.files.insert(path.to_owned(), file),
            None => self.files.remove(path),
        };
        for name in before.iter().flat_map(File::names) {
            if let Some(count) = self.names.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.names.remove(name);
                }
            }
        }
    }
}

/// All files read anew and together: to say of a name where it was first.
fn all(paths: &[PathBuf], mut unreadable: Vec<Diagnostic>) -> Loaded {
    let mut sources: Vec<Source> = Vec::new();
    for path in paths {
        match input::read(path) {
            Ok(source) => sources.push(source),
            Err(diagnostic) => unreadable.push(*diagnostic),
        }
    }
    together(&sources, unreadable)
}

/// What a function makes of each item, on as many processors as there are.
fn in_parallel<T: Sync, R: Send>(items: &[T], function: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.min(items.len());
    if threads < 2 {
        return items.iter().map(function).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut made = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            match items.get(index) {
                Some(item) => made.push((index, function(item))),
                None => return made,
            }
        }
    };
    let mut made: Vec<_> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut made = work();
        for other in others {
            made.extend(other.join().unwrap_or_else(|panic| panic::resume_unwind(panic)));
        }
        made
    });
    made.sort_unstable_by_key(|(index, _)| *index);
    made.into_iter().map(|(_, made)| made).collect()
}
