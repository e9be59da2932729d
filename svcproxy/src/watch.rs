//! Notices that manifests have changed: files written or replaced, directories whose entries come and go, symlinks
//! that lead elsewhere.
//!
//! In come the `-f` inputs, out goes what every burst of changes was about ([`Changed`]): at once when all of it is
//! complete, as a file is that has been closed or moved to its name, else when it has calmed down. Which directories to
//! listen to is found anew when anything but files has changed ([`places`]): inotify knows directories and not paths, and
//! after a swap of a ConfigMap's `..data` the paths lead elsewhere.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tracing::{debug, warn};

use crate::manifest::Changed;

mod places;

use self::places::Places;

/// A burst of complete changes is over when nothing has happened for this long: files are often written in a row.
const COMPANY: Duration = Duration::from_millis(2);

/// The same when a part may be missing: a file is still written, or is gone and may come back.
const QUIET: Duration = Duration::from_millis(150);

/// A burst that does not end is answered after this long all the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// The least time between two answers, however many files are written.
const PACE: Duration = Duration::from_millis(100);

/// Changes of the manifests, from now on.
pub struct Manifests {
    bursts: mpsc::UnboundedReceiver<Changed>,
}

impl Manifests {
    /// Listens to files and directories; standard input (`-`) never changes. Must be called within a tokio runtime.
    ///
    /// Where the kernel refuses, this is logged, and no change is noticed.
    pub fn watch(filenames: &[PathBuf]) -> Self {
        let (sender, bursts) = mpsc::unbounded_channel();
        let filenames: Vec<_> = filenames
            .iter()
            .filter(|name| name.as_os_str() != "-")
            .cloned()
            .collect();
        if !filenames.is_empty() {
            let ears = Ears::listen(&filenames);
            tokio::spawn(follow(filenames, ears, sender));
        }
        Self { bursts }
    }

    /// Waits until manifests have changed and the change is over. Nothing is lost when this is given up and begun
    /// again.
    pub async fn changed(&mut self) -> Changed {
        let Some(mut changed) = self.bursts.recv().await else {
            std::future::pending().await // nothing is listened to
        };
        while let Ok(more) = self.bursts.try_recv() {
            changed = changed.and(more);
        }
        changed
    }
}

/// Tells of bursts until nobody asks any more or the kernel refuses to go on.
async fn follow(filenames: Vec<PathBuf>, ears: notify::Result<Ears>, bursts: mpsc::UnboundedSender<Changed>) {
    let mut ears = ears;
    let mut earliest = Instant::now();
    loop {
        let heard = match &mut ears {
            Ok(ears) => ears.burst(&filenames, earliest).await,
            Err(error) => {
                return warn!("manifests are not watched, changes are read on SIGHUP only: {error}");
            }
        };
        let Some(burst) = heard else { return };
        let files = ears
            .as_ref()
            .ok()
            .and_then(|ears| burst.files(&ears.places, &filenames));
        let changed = match files {
            Some(files) => Changed::Files(files),
            None => {
                // Before the manifests are read: what changes after that is heard by the new ears.
                ears = Ears::listen(&filenames);
                Changed::Anything
            }
        };
        if bursts.send(changed).is_err() {
            return;
        }
        earliest = Instant::now() + PACE;
    }
}

/// What has happened to paths since a change began.
#[derive(Default)]
struct Burst {
    /// Those that have come to be what they are to be.
    complete: BTreeSet<PathBuf>,
    /// Those of which there may be more to come.
    half: BTreeSet<PathBuf>,
    /// Whether something was not heard.
    missed: bool,
}

impl Burst {
    fn is_complete(&self) -> bool {
        self.half.is_empty() && !self.missed
    }

    fn note(&mut self, heard: Heard) {
        match heard {
            Heard::Complete(path) => {
                self.half.remove(&path);
                self.complete.insert(path);
            }
            Heard::Half(path) => {
                self.complete.remove(&path);
                self.half.insert(path);
            }
            Heard::Something => self.missed = true,
        }
    }

    /// The files to read, by the names they are read by; `None` when the inputs may lead elsewhere than to these places, or
    /// something is not complete.
    fn files(&self, places: &Places, filenames: &[PathBuf]) -> Option<BTreeSet<PathBuf>> {
        let files: Option<Vec<_>> = self.complete.iter().map(|path| places.names(path)).collect();
        let files = files.filter(|_| self.is_complete() && Places::of(filenames) == *places)?;
        Some(files.into_iter().flatten().collect())
    }
}

/// What an event says.
enum Heard {
    /// This was closed after writing, or has come to its name as a whole.
    Complete(PathBuf),
    /// This is being written, or gone.
    Half(PathBuf),
    /// Nothing certain.
    Something,
}

/// A set of inotify watches.
struct Ears {
    places: Places,
    events: mpsc::UnboundedReceiver<notify::Result<Event>>,
    _watcher: RecommendedWatcher,
}

impl Ears {
    /// Listens where the inputs lead now.
    fn listen(filenames: &[PathBuf]) -> notify::Result<Self> {
        let (sender, events) = mpsc::unbounded_channel();
        let mut watcher = notify::recommended_watcher(move |event| {
            // Nobody listens to these ears any more.
            let _ = sender.send(event);
        })?;
        let mut places = Places::default();
        // A step that changes before it is listened to would lead to the wrong directories for good.
        loop {
            let found = Places::of(filenames);
            if found == places {
                break;
            }
            for directory in found.directories().filter(|directory| !places.has(directory)) {
                match watcher.watch(directory, RecursiveMode::NonRecursive) {
                    Err(error) if is_gone(&error) => {}
                    result => result?,
                }
            }
            places = found;
        }
        Ok(Self {
            places,
            events,
            _watcher: watcher,
        })
    }

    /// Waits for changes to begin and to end, and for the time when they may be told of. `None` when there will be no
    /// more.
    async fn burst(&mut self, filenames: &[PathBuf], earliest: Instant) -> Option<Burst> {
        let mut burst = Burst::default();
        burst.note(self.heard().await?);
        let end = Instant::now() + PATIENCE;
        loop {
            let last = Instant::now();
            if let Ok(heard) = timeout_at((last + COMPANY).max(earliest).min(end), self.heard()).await {
                burst.note(heard?);
                continue;
            }
            // What nothing leads to any more, as the former files of a ConfigMap, is no half.
            if !burst.half.is_empty() {
                let places = Places::of(filenames);
                burst.half.retain(|path| places.concern(path));
            }
            if burst.is_complete() || Instant::now() >= end {
                return Some(burst);
            }
            match timeout_at((last + QUIET).min(end), self.heard()).await {
                Ok(heard) => burst.note(heard?),
                Err(_) => return Some(burst),
            }
        }
    }

    /// Waits for an event that may change what the manifests say.
    async fn heard(&mut self) -> Option<Heard> {
        loop {
            let event = match self.events.recv().await? {
                Ok(event) if event.need_rescan() => return Some(Heard::Something),
                Ok(event) => event,
                Err(error) => {
                    debug!("{error}");
                    return Some(Heard::Something);
                }
            };
            let concerned = event.paths.into_iter().find(|path| self.places.concern(path));
            let Some(path) = concerned else { continue };
            debug!("{:?} {}", event.kind, path.display());
            match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write))
                | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => return Some(Heard::Complete(path)),
                // Our own reading, and both halves of a renaming again that were told one by one.
                EventKind::Access(_) | EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => {}
                _ => return Some(Heard::Half(path)),
            }
        }
    }
}

/// Whether a directory went away between being found and being listened to.
fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}
