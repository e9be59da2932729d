//! Removes labs: at the end, on Ctrl-C, and those that a killed process left behind.
//!
//! Everything of a lab can be found by its name alone: namespaces named `svcproxy-NAME-…` with the processes in them,
//! and the directory `/run/svcproxy-lab/NAME` with the bpffs mounted below it. A lab's owner holds a lock in that
//! directory for as long as it lives; a lab whose lock is free, and that was not meant to stay, is a leftover.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process,
    sync::{
        Mutex, Once,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    fcntl::{Flock, FlockArg},
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::namespace::{self, Namespace};

/// The directory of all labs.
const ROOT: &str = "/run/svcproxy-lab";

/// Labs that this process must remove before a signal ends it.
static OWNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A signal has come, and its thread removes the labs and ends the process.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Returns at once in the ordinary course of things; after a signal, never: what fails then, fails because the lab is
/// being removed, and is no news.
pub(crate) fn unless_ending() {
    while ENDING.load(Ordering::SeqCst) {
        thread::park();
    }
}

/// The directory of the lab `name`.
pub fn directory(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

/// What the name of each namespace of the lab `name` starts with.
pub fn prefix(name: &str) -> String {
    format!("svcproxy-{name}-")
}

/// The namespaces of the lab `name`.
pub fn namespaces(name: &str) -> Vec<Namespace> {
    let prefix = prefix(name);
    let entries = fs::read_dir(namespace::DIRECTORY).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.starts_with(&prefix))
        .map(|name| Namespace::existing(&name))
        .collect()
}

/// Makes the lab's directory and marks the lab as this process's own.
pub(crate) fn claim(name: &str) -> Result<Flock<File>> {
    remove_on_signals();
    let directory = directory(name);
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}; are you root?", directory.display()))?;
    let lock = lock(&directory.join("owner"), FlockArg::LockExclusiveNonblock)?;
    owned().insert(name.to_owned());
    Ok(lock)
}

/// Lets the lab outlive its owner.
pub(crate) fn keep(name: &str) -> Result<()> {
    fs::write(directory(name).join("kept"), "")?;
    owned().remove(name);
    Ok(())
}

/// Removes the lab `name`, or what is there of it. Says what would not go.
pub fn remove(name: &str) -> Result<()> {
    let mut failures = Vec::new();
    let mut note = |result: Result<()>| failures.extend(result.err().map(|error| format!("{error:#}")));
    for namespace in namespaces(name) {
        note(remove_namespace(&namespace));
    }
    let directory = directory(name);
    let bpffs = directory.join("bpf");
    while is_mounted(&bpffs) {
        if let Err(error) = umount2(&bpffs, MntFlags::MNT_DETACH) {
            note(Err(error).with_context(|| format!("cannot unmount {}", bpffs.display())));
            break;
        }
    }
    if directory.exists() && !is_mounted(&bpffs) {
        note(fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display())));
    }
    owned().remove(name);
    if !failures.is_empty() {
        anyhow::bail!("lab {name} is not quite gone: {}", failures.join("; "));
    }
    Ok(())
}

/// Ends the processes of a namespace and deletes it.
pub(crate) fn remove_namespace(namespace: &Namespace) -> Result<()> {
    for pid in namespace.pids()? {
        if pid != process::id().cast_signed() {
            // Already gone is as good.
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
    }
    namespace.delete()
}

/// Removes the labs of processes that were killed.
pub fn sweep() -> Result<()> {
    for entry in fs::read_dir(ROOT).into_iter().flatten().flatten() {
        let directory = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let orphaned = directory.is_dir() && !directory.join("kept").exists();
        if orphaned && lock(&directory.join("owner"), FlockArg::LockExclusiveNonblock).is_ok() {
            eprintln!("lab {name}: removing what a killed run left behind");
            remove(&name)?;
        }
    }
    Ok(())
}

/// Serialises what must not happen twice at a time on this machine, until the lock is dropped.
pub(crate) fn machine_lock(name: &str, how: FlockArg) -> Result<Flock<File>> {
    fs::create_dir_all(ROOT).with_context(|| format!("cannot make {ROOT}; are you root?"))?;
    lock(&Path::new(ROOT).join(format!("{name}.lock")), how)
}

fn lock(path: &Path, how: FlockArg) -> Result<Flock<File>> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    Flock::lock(file, how)
        .map_err(|(_, error)| error)
        .with_context(|| format!("cannot lock {}", path.display()))
}

fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(1).is_some_and(|at| Path::new(at) == path))
}

fn owned() -> std::sync::MutexGuard<'static, BTreeSet<String>> {
    OWNED.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// From now on SIGINT, SIGTERM and SIGHUP remove this process's labs before they end it.
fn remove_on_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else {
            return;
        };
        thread::spawn(move || {
            let Some(signal) = signals.forever().next() else { return };
            ENDING.store(true, Ordering::SeqCst);
            let names = owned().clone();
            for name in names {
                eprintln!("\nlab {name}: removed on signal {signal}");
                // Twice: the thread that builds the lab may be adding to it still.
                for _ in 0..2 {
                    if let Err(error) = remove(&name) {
                        eprintln!("{error:#}");
                    }
                    thread::sleep(Duration::from_millis(50));
                }
            }
            process::exit(128 + signal);
        });
    });
}
