//! `-f` to texts: the only place of the manifest stage that touches files.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use super::{Diagnostic, Place, Source, diagnostic::Severity};

/// Every text that can be read, and a diagnostic for each input that cannot.
pub(crate) fn read(filenames: &[PathBuf]) -> (Vec<Source>, Vec<Diagnostic>) {
    let mut reader = Reader::default();
    for filename in filenames {
        if filename.as_os_str() == "-" {
            let all = || {
                let mut bytes = Vec::new();
                io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
            };
            reader.add("<stdin>".to_owned(), once(filename, all));
        } else if is_stream(filename) {
            let all = || fs::read(filename);
            reader.add(filename.display().to_string(), once(filename, all));
        } else if filename.is_dir() {
            reader.directory(filename);
        } else {
            reader.file(filename);
        }
    }
    (reader.sources, reader.diagnostics)
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

#[derive(Default)]
struct Reader {
    sources: Vec<Source>,
    diagnostics: Vec<Diagnostic>,
}

impl Reader {
    fn file(&mut self, path: &Path) {
        self.add(path.display().to_string(), fs::read(path));
    }

    fn directory(&mut self, path: &Path) {
        let is_manifest = |path: &PathBuf| is_manifest_name(path) && !path.is_dir();
        let entries = fs::read_dir(path).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect());
        let name = path.display().to_string();
        match entries {
            Err(error) => self.say(Severity::Error, name, format!("cannot be read: {error}"), ""),
            Ok(paths) => {
                let paths: Vec<PathBuf> = paths;
                let mut manifests: Vec<PathBuf> = paths.into_iter().filter(is_manifest).collect();
                manifests.sort();
                if manifests.is_empty() {
                    let advice = "directories are not searched below their first level";
                    self.say(
                        Severity::Warning,
                        name,
                        "has no *.yaml, *.yml or *.json".to_owned(),
                        advice,
                    );
                }
                for manifest in manifests {
                    self.file(&manifest);
                }
            }
        }
    }

    fn add(&mut self, name: String, bytes: io::Result<Vec<u8>>) {
        match bytes.map(String::from_utf8) {
            Ok(Ok(text)) => self.sources.push(Source { name, text }),
            Ok(Err(error)) => {
                let at = error.utf8_error().valid_up_to();
                let line = error.as_bytes()[..at].split(|&b| b == b'\n').count();
                let place = Place {
                    file: name,
                    line,
                    column: 0,
                    document: 0,
                    documents: 0,
                };
                self.diagnostics.push(Diagnostic {
                    place: Some(place),
                    ..Diagnostic::placeless(Severity::Error, "is not UTF-8 text", "save the file as UTF-8")
                });
            }
            Err(error) => self.say(Severity::Error, name, format!("cannot be read: {error}"), ""),
        }
    }

    fn say(&mut self, severity: Severity, file: String, problem: String, advice: &str) {
        let place = Place {
            file,
            line: 0,
            column: 0,
            document: 0,
            documents: 0,
        };
        self.diagnostics.push(Diagnostic {
            place: Some(place),
            ..Diagnostic::placeless(severity, problem, advice)
        });
    }
}
