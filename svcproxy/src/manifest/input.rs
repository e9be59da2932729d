//! `-f` to texts: the only place of the manifest stage that touches files.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use super::{Diagnostic, Place, Source, diagnostic::Severity};

/// The least time between two changes that file systems with fine time stamps tell apart: one tick of the kernel's clock,
/// and some more.
const TICK: Duration = Duration::from_millis(50);

/// The same where time stamps are of whole seconds, as on FAT.
const COARSE_TICK: Duration = Duration::from_secs(3);

/// Every text there is to read, in order, and a diagnostic for each input that has none.
pub(crate) fn list(filenames: &[PathBuf]) -> (Vec<PathBuf>, Vec<Diagnostic>) {
    let (mut paths, mut diagnostics) = (Vec::new(), Vec::new());
    for filename in filenames {
        if filename.as_os_str() != STDIN && filename.is_dir() {
            match manifests_of(filename) {
                Ok(found) => paths.extend(found),
                Err(diagnostic) => diagnostics.push(*diagnostic),
            }
        } else {
            paths.push(filename.clone());
        }
    }
    (paths, diagnostics)
}

/// The name of standard input.
const STDIN: &str = "-";

/// One text, or why it cannot be read.
pub(crate) fn read(path: &Path) -> Result<Source, Box<Diagnostic>> {
    let (name, bytes) = if path.as_os_str() == STDIN {
        let all = || {
            let mut bytes = Vec::new();
            io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
        };
        ("<stdin>".to_owned(), once(path, all))
    } else if is_stream(path) {
        (path.display().to_string(), once(path, || fs::read(path)))
    } else {
        (path.display().to_string(), fs::read(path))
    };
    text(name, bytes)
}

/// What tells the contents of a file from earlier and later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// When it was last changed: seconds, nanoseconds. Nobody can set it back.
    changed: (i64, i64),
}

impl Stamp {
    /// That of a file now, to be taken before it is read. `None` when it may change and keep its stamp, because it has
    /// just changed or is no file.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok().filter(fs::Metadata::is_file)?;
        let stamp = Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        let since_epoch = Duration::new(
            u64::try_from(metadata.ctime()).ok()?,
            u32::try_from(metadata.ctime_nsec()).ok()?,
        );
        let tick = if since_epoch.subsec_nanos() == 0 {
            COARSE_TICK
        } else {
            TICK
        };
        let age = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH + since_epoch)
            .ok()?;
        (age > tick).then_some(stamp)
    }
}

/// Whether a file of this name in a directory is read.
pub(crate) fn is_manifest_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Whether this can be read but once: a pipe, not a file.
fn is_stream(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// What a stream gave when it was read, now or the first time: a reload finds it again.
fn once(name: &Path, read: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    static STREAMS: Mutex<BTreeMap<PathBuf, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let mut streams = STREAMS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(bytes) = streams.get(name) {
        return Ok(bytes.clone());
    }
    let bytes = read()?;
    streams.insert(name.to_owned(), bytes.clone());
    Ok(bytes)
}

/// The manifests of a directory, sorted, or that it has none.
fn manifests_of(directory: &Path) -> Result<Vec<PathBuf>, Box<Diagnostic>> {
    let name = directory.display().to_string();
    let entries = fs::read_dir(directory).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect());
    let paths: Vec<PathBuf> = entries.map_err(|error| unreadable(name.clone(), &error))?;
    let is_manifest = |path: &PathBuf| is_manifest_name(path) && !path.is_dir();
    let mut manifests: Vec<PathBuf> = paths.into_iter().filter(is_manifest).collect();
    if manifests.is_empty() {
        let problem = "has no *.yaml, *.yml or *.json";
        let advice = "directories are not searched below their first level";
        return Err(about(
            name,
            0,
            Diagnostic::placeless(Severity::Warning, problem, advice),
        ));
    }
    manifests.sort();
    Ok(manifests)
}

fn text(name: String, bytes: io::Result<Vec<u8>>) -> Result<Source, Box<Diagnostic>> {
    let bytes = bytes.map_err(|error| unreadable(name.clone(), &error))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source { name, text }),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..at].split(|&b| b == b'\n').count();
            let diagnostic = Diagnostic::placeless(Severity::Error, "is not UTF-8 text", "save the file as UTF-8");
            Err(about(name, line, diagnostic))
        }
    }
}

fn unreadable(name: String, error: &io::Error) -> Box<Diagnostic> {
    let problem = format!("cannot be read: {error}");
    about(name, 0, Diagnostic::placeless(Severity::Error, problem, ""))
}

/// A diagnostic about a line of a file, or about all of it.
fn about(file: String, line: usize, diagnostic: Diagnostic) -> Box<Diagnostic> {
    let place = Place {
        file,
        line,
        column: 0,
        document: 0,
        documents: 0,
    };
    Box::new(Diagnostic {
        place: Some(place),
        ..diagnostic
    })
}
