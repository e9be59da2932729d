//! `state.json` on disk: replaced as a whole or not at all, never trusted when it does not read as it was written.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use super::State;

/// Name of the file within the state directory.
pub const FILE_NAME: &str = "state.json";

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct StateError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What [`State::load`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedState {
    /// The state; empty when there was none that could be trusted.
    pub state: State,
    /// What happened to a file that could not be trusted, for the log.
    pub set_aside: Option<String>,
}

impl State {
    /// Reads the state of the last run. No file is an empty state; one that is corrupt or of another version is renamed
    /// to `state.json.corrupt-<now>` and reported, `now` being seconds since the Unix epoch.
    pub fn load(directory: &Path, now: u64) -> Result<LoadedState, StateError> {
        let path = directory.join(FILE_NAME);
        let fail = |action| {
            move |path: &Path, source| StateError {
                action,
                path: path.to_owned(),
                source,
            }
        };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(LoadedState {
                    state: Self::default(),
                    set_aside: None,
                });
            }
            Err(error) => return Err(fail("read")(&path, error)),
        };
        let reason = match parse(&text) {
            Ok(state) => return Ok(LoadedState { state, set_aside: None }),
            Err(reason) => reason,
        };
        let aside = directory.join(format!("{FILE_NAME}.corrupt-{now}"));
        fs::rename(&path, &aside).map_err(|error| fail("set aside")(&path, error))?;
        let report = format!(
            "{} {reason}; it is now {} and cluster IPs are assigned afresh",
            path.display(),
            aside.display()
        );
        Ok(LoadedState {
            state: Self::default(),
            set_aside: Some(report),
        })
    }

    /// The state as it is, for a look: `None` when there is none to trust. Changes nothing.
    pub fn peek(directory: &Path) -> Option<Self> {
        parse(&fs::read(directory.join(FILE_NAME)).ok()?).ok()
    }

    /// Writes the state so that a crash at any moment leaves the old file or the new one.
    pub fn save(&self, directory: &Path) -> Result<(), StateError> {
        let path = directory.join(FILE_NAME);
        let fail = |source| StateError {
            action: "write",
            path: path.clone(),
            source,
        };
        let text = serde_json::to_vec_pretty(self).map_err(|error| fail(error.into()))?;
        fs::create_dir_all(directory).map_err(fail)?;
        // One name, so that what a crash leaves behind is overwritten the next time.
        let temporary = directory.join(format!(".{FILE_NAME}.new"));
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(&text)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(directory)?.sync_all()
        };
        write().map_err(fail)
    }
}

/// The state, or what is wrong with the text.
fn parse(text: &[u8]) -> Result<State, String> {
    /// The one field that every version has.
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let version = serde_json::from_slice(text).map(|Version { version }| version);
    match version {
        Err(error) => Err(format!("is corrupt ({error})")),
        Ok(version) if version != State::VERSION => Err(format!(
            "is of version {version}, this svcproxy reads version {}",
            State::VERSION
        )),
        Ok(_) => serde_json::from_slice(text).map_err(|error| format!("is corrupt ({error})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own for each test, gone afterwards.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("svcproxy-state-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const TEXT: &str = r#"{"version": 1, "services": {"default/kubia": {"clusterIPs": ["10.96.7.9", "fd00:10:96::9"],
        "type": "ClusterIP", "created": 1700000000, "selector": {"app": "kubia"},
        "ports": [{"name": "http", "protocol": "TCP", "port": 80}], "pods": {"10.244.0.11": "kubia-1"}}}}"#;

    #[test]
    fn what_is_saved_is_loaded() {
        let directory = Directory::new("roundtrip");
        let state = parse(TEXT.as_bytes()).unwrap();
        state.save(&directory.0).unwrap();
        state.save(&directory.0).unwrap();
        assert_eq!(
            State::load(&directory.0, 7).unwrap(),
            LoadedState { state, set_aside: None }
        );
        assert_eq!(
            fs::read_dir(&directory.0).unwrap().count(),
            1,
            "no temporary file stays"
        );
    }

    #[test]
    fn addresses_and_ports_from_outside_are_kept_too() {
        let directory = Directory::new("outside");
        let text = TEXT
            .replace(
                r#""type": "#,
                r#""externalIPs": ["198.51.100.1"], "loadBalancerIPs": ["203.0.113.1"],
                "healthCheckNodePort": 32000, "type": "#,
            )
            .replace(r#""port": 80"#, r#""port": 80, "nodePort": 30080"#);
        let state = parse(text.as_bytes()).unwrap();
        let record = &state.services["default/kubia"];
        assert_eq!(
            (record.ports[0].node_port, record.health_check_node_port),
            (Some(30080), Some(32000))
        );
        assert_eq!((record.external_ips.len(), record.load_balancer_ips.len()), (1, 1));
        state.save(&directory.0).unwrap();
        assert_eq!(State::load(&directory.0, 7).unwrap().state, state);
    }

    #[test]
    fn no_file_is_an_empty_state() {
        let directory = Directory::new("none");
        let loaded = State::load(&directory.0, 7).unwrap();
        assert_eq!(
            loaded,
            LoadedState {
                state: State::default(),
                set_aside: None
            }
        );
        loaded.state.save(&directory.0).unwrap();
        assert_eq!(State::load(&directory.0, 7).unwrap(), loaded);
    }

    #[test]
    fn what_cannot_be_trusted_is_set_aside() {
        let truncated = &TEXT[..TEXT.len() / 2];
        for (name, text, reason) in [
            ("empty", "", "is corrupt"),
            ("truncated", truncated, "is corrupt"),
            ("version", r#"{"version": 2, "everything": "else"}"#, "is of version 2"),
            ("unversioned", r#"{"services": {}}"#, "is corrupt"),
            ("unknown", r#"{"version": 1, "services": {}, "more": 1}"#, "is corrupt"),
            ("address", &TEXT.replace("10.96.7.9", "10.96.7.999"), "is corrupt"),
        ] {
            let directory = Directory::new(name);
            fs::create_dir_all(&directory.0).unwrap();
            fs::write(directory.0.join(FILE_NAME), text).unwrap();
            let loaded = State::load(&directory.0, 7).unwrap();
            assert_eq!(loaded.state, State::default(), "{name}");
            let report = loaded.set_aside.unwrap();
            assert!(report.contains(reason), "{name}: {report}");
            let aside = fs::read_to_string(directory.0.join("state.json.corrupt-7")).unwrap();
            assert_eq!(aside, text, "{name}");
            assert!(!directory.0.join(FILE_NAME).exists(), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_written_says_which_file() {
        let directory = Directory::new("blocked");
        fs::write(&directory.0, "a file where the directory should be").unwrap();
        let error = State::default().save(&directory.0).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot write ") && error.contains("state.json"),
            "{error}"
        );
        fs::remove_file(&directory.0).unwrap();
    }
}
