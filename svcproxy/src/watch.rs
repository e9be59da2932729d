//! Notices that manifests have changed: files written or replaced, directories whose entries come and go, symlinks
//! that lead elsewhere.
//!
//! In come the `-f` inputs, out goes one signal for every burst of changes, when it has calmed down. Which directories
//! to listen to is found anew for each ([`places`]): inotify knows directories and not paths, and after an editor's
//! rename-and-replace or a swap of a ConfigMap's `..data` the paths lead elsewhere.

use std::{path::PathBuf, time::Duration};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tracing::{debug, warn};

mod places;

use self::places::Places;

/// A burst of changes is over when nothing has happened for this long.
const QUIET: Duration = Duration::from_millis(150);

/// A burst that does not end is answered after this long all the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// Changes of the manifests, from now on.
pub struct Manifests {
    bursts: mpsc::Receiver<()>,
}

impl Manifests {
    /// Listens to files and directories; standard input (`-`) never changes. Must be called within a tokio runtime.
    ///
    /// Where the kernel refuses, this is logged, and no change is noticed.
    pub fn watch(filenames: &[PathBuf]) -> Self {
        // One that waits to be taken up stands for all that follow.
        let (sender, bursts) = mpsc::channel(1);
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
    pub async fn changed(&mut self) {
        if self.bursts.recv().await.is_none() {
            std::future::pending().await // nothing is listened to
        }
    }
}

/// Tells of bursts until nobody asks any more or the kernel refuses to go on.
async fn follow(filenames: Vec<PathBuf>, ears: notify::Result<Ears>, bursts: mpsc::Sender<()>) {
    let mut ears = ears;
    loop {
        let heard = match &mut ears {
            Ok(ears) => ears.burst().await,
            Err(error) => {
                return warn!("manifests are not watched, changes are read on SIGHUP only: {error}");
            }
        };
        if heard.is_none() || bursts.is_closed() {
            return;
        }
        // Before the manifests are read: what changes after that is heard by the new ears.
        ears = Ears::listen(&filenames);
        let _ = bursts.try_send(());
    }
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

    /// Waits for changes to begin and to end. `None` when there will be no more.
    async fn burst(&mut self) -> Option<()> {
        self.change().await?;
        let end = Instant::now() + PATIENCE;
        loop {
            let quiet = (Instant::now() + QUIET).min(end);
            match timeout_at(quiet, self.change()).await {
                Err(_) => return Some(()),
                Ok(change) => change?,
            }
            if Instant::now() >= end {
                return Some(());
            }
        }
    }

    /// Waits for an event that may change what the manifests say.
    async fn change(&mut self) -> Option<()> {
        loop {
            match self.events.recv().await? {
                Ok(event) if self.concerns(&event) => {
                    debug!("{:?} {:?}", event.kind, event.paths);
                    return Some(());
                }
                Ok(_) => {}
                // Something was not heard.
                Err(error) => {
                    debug!("{error}");
                    return Some(());
                }
            }
        }
    }

    /// Whether an event is a change of ours. Our own reading is none.
    fn concerns(&self, event: &Event) -> bool {
        match event.kind {
            _ if event.need_rescan() => true,
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => self.places.concern(&event.paths),
            EventKind::Access(_) => false,
            _ => self.places.concern(&event.paths),
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
