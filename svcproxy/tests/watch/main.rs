//! Changes of manifests on a real file system: which are noticed, that one burst is one, and how soon it is told.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use svcproxy::{manifest::Changed, watch::Manifests};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// Longer than a burst lasts at most.
const SOON: Duration = Duration::from_secs(3);

/// Longer than a burst that is over is waited for.
const LATER: Duration = Duration::from_millis(600);

/// A directory, and inputs in it that are watched.
struct Scene {
    directory: TempDir,
    manifests: Manifests,
}

impl Scene {
    /// Prepares the directory, then watches these inputs.
    fn new(prepare: impl FnOnce(&Path), inputs: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        prepare(directory.path());
        let inputs: Vec<PathBuf> = inputs.iter().map(|input| directory.path().join(input)).collect();
        Self {
            manifests: Manifests::watch(&inputs),
            directory,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Asserts that one change is noticed, and no other.
    #[track_caller]
    fn one(&mut self) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let first = timeout(SOON, self.manifests.changed()).await;
            assert!(first.is_ok(), "{place}: no change was noticed");
            let second = timeout(LATER, self.manifests.changed()).await;
            assert!(second.is_err(), "{place}: a change was noticed that was none");
        }
    }

    #[track_caller]
    fn none(&mut self) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let change = timeout(LATER, self.manifests.changed()).await;
            assert!(change.is_err(), "{place}: a change was noticed that was none");
        }
    }
}

/// As soon as what waits for quiet can never be told.
const AT_ONCE: Duration = Duration::from_millis(100);

/// When nothing has been told of late, so that the pace delays nothing.
async fn rest() {
    sleep(Duration::from_millis(150)).await;
}

impl Scene {
    /// What is told after a change, and how soon.
    async fn told(&mut self) -> (Changed, Duration) {
        let begun = Instant::now();
        let changed = timeout(SOON, self.manifests.changed()).await.expect("a change");
        (changed, begun.elapsed())
    }

    fn files(&self, names: &[&str]) -> Changed {
        Changed::Files(names.iter().map(|name| self.path(name)).collect())
    }
}

#[tokio::test]
async fn files_that_are_complete_are_told_at_once_and_by_name() {
    let prepare = |at: &Path| {
        fs::create_dir(at.join("manifests")).unwrap();
        fs::write(at.join("manifests/a.yaml"), "a").unwrap();
        fs::write(at.join("elsewhere.yaml"), "a").unwrap();
        symlink("../elsewhere.yaml", at.join("manifests/link.yaml")).unwrap();
        fs::write(at.join("alone.yaml"), "a").unwrap();
        symlink("manifests", at.join("same")).unwrap();
    };
    let mut scene = Scene::new(prepare, &["manifests", "alone.yaml", "same"]);
    type Write = fn(&Path);
    let cases: [(Write, &[&str]); 5] = [
        (
            |at| fs::write(at.join("manifests/a.yaml"), "b").unwrap(),
            &["manifests/a.yaml", "same/a.yaml"],
        ),
        (
            |at| replace(&at.join("manifests/a.yaml"), "c"),
            &["manifests/a.yaml", "same/a.yaml"],
        ),
        (
            |at| fs::write(at.join("manifests/new.yaml"), "b").unwrap(),
            &["manifests/new.yaml", "same/new.yaml"],
        ),
        (|at| fs::write(at.join("alone.yaml"), "b").unwrap(), &["alone.yaml"]),
        (
            |at| fs::write(at.join("elsewhere.yaml"), "b").unwrap(),
            &["manifests/link.yaml", "same/link.yaml"],
        ),
    ];
    for (write, names) in cases {
        rest().await;
        write(scene.directory.path());
        let (changed, took) = scene.told().await;
        assert_eq!(changed, scene.files(names));
        assert!(took < AT_ONCE, "{names:?} after {took:?}");
    }
}

#[tokio::test]
async fn a_swapped_config_map_is_told_at_once() {
    let prepare = |at: &Path| {
        fs::create_dir(at.join("volume")).unwrap();
        write_config_map(&at.join("volume"), "1");
    };
    let mut scene = Scene::new(prepare, &["volume"]);
    rest().await;
    write_config_map(&scene.path("volume"), "2");
    let (changed, took) = scene.told().await;
    assert_eq!(changed, Changed::Anything);
    assert!(took < AT_ONCE, "{took:?}");
}

#[tokio::test]
async fn a_file_that_is_still_written_is_waited_for_and_not_told_by_name() {
    let mut scene = Scene::new(|at| fs::create_dir(at.join("manifests")).unwrap(), &["manifests"]);
    let mut half = File::create(scene.path("manifests/half.yaml")).unwrap();
    half.write_all(b"kind:").unwrap();
    fs::write(scene.path("manifests/a.yaml"), "a").unwrap();
    let early = timeout(AT_ONCE, scene.manifests.changed()).await;
    assert!(early.is_err(), "{early:?}");
    drop(half);
    let (changed, took) = scene.told().await;
    assert_eq!(changed, scene.files(&["manifests/a.yaml", "manifests/half.yaml"]));
    assert!(took < AT_ONCE, "{took:?}");
    rest().await;
    let mut half = File::create(scene.path("manifests/half.yaml")).unwrap();
    half.write_all(b"kind:").unwrap();
    assert_eq!(scene.told().await.0, Changed::Anything, "it does not end");
}

#[tokio::test]
async fn a_thousand_files_in_a_row_are_told_a_few_times() {
    let mut scene = Scene::new(|at| fs::create_dir(at.join("manifests")).unwrap(), &["manifests"]);
    let directory = scene.path("manifests");
    let begun = Instant::now();
    let writer = tokio::task::spawn_blocking(move || {
        for number in 0..1_000 {
            fs::write(directory.join(format!("{number}.yaml")), "a").unwrap();
        }
    });
    let (mut told, mut files) = (0, BTreeSet::new());
    while files.len() < 1_000 {
        match scene.told().await.0 {
            Changed::Files(more) => files.extend(more),
            Changed::Anything | Changed::Everything => break,
        }
        told += 1;
    }
    writer.await.unwrap();
    let most = 2 + begun.elapsed().as_millis() / 100;
    assert!(told <= most, "{told} times");
}

/// What an editor does that is careful: a new file, then the name.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("yaml~");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

#[tokio::test]
async fn a_file_that_is_written_or_replaced_time_and_again() {
    let mut scene = Scene::new(|at| fs::write(at.join("svc.yaml"), "a").unwrap(), &["svc.yaml"]);
    scene.none().await;
    for text in ["b", "c"] {
        replace(&scene.path("svc.yaml"), text);
        scene.one().await;
        fs::write(scene.path("svc.yaml"), text).unwrap();
        scene.one().await;
    }
    fs::read(scene.path("svc.yaml")).unwrap();
    fs::write(scene.path("other.yaml"), "").unwrap();
    scene.none().await;
}

#[tokio::test]
async fn a_file_that_is_missing_for_a_moment_is_one_change_and_one_that_stays_away_is_awaited() {
    let mut scene = Scene::new(|at| fs::write(at.join("svc.yaml"), "a").unwrap(), &["svc.yaml"]);
    let path = scene.path("svc.yaml");
    fs::remove_file(&path).unwrap();
    sleep(Duration::from_millis(60)).await;
    fs::write(&path, "b").unwrap();
    scene.one().await;
    fs::remove_file(&path).unwrap();
    scene.one().await;
    fs::write(&path, "c").unwrap();
    scene.one().await;
}

#[tokio::test]
async fn a_directory_whose_manifests_come_change_and_go() {
    let mut scene = Scene::new(|at| fs::create_dir(at.join("manifests")).unwrap(), &["manifests"]);
    let file = scene.path("manifests/svc.yaml");
    fs::write(&file, "a").unwrap();
    scene.one().await;
    replace(&file, "b");
    scene.one().await;
    fs::write(scene.path("manifests/.svc.yaml.swp"), "").unwrap();
    fs::write(scene.path("manifests/README.md"), "").unwrap();
    scene.none().await;
    fs::remove_file(&file).unwrap();
    scene.one().await;
}

#[tokio::test]
async fn a_directory_that_is_replaced_as_a_whole() {
    let directory = |at: &Path, name: &str| {
        fs::create_dir(at.join(name)).unwrap();
        fs::write(at.join(name).join("svc.yaml"), name).unwrap();
    };
    let mut scene = Scene::new(|at| directory(at, "manifests"), &["manifests"]);
    directory(scene.directory.path(), "new");
    scene.none().await;
    for name in ["new", "newer"] {
        fs::remove_dir_all(scene.path("manifests")).unwrap();
        if name == "newer" {
            scene.one().await;
            directory(scene.directory.path(), name);
        }
        fs::rename(scene.path(name), scene.path("manifests")).unwrap();
        scene.one().await;
        fs::write(scene.path("manifests/svc.yaml"), "b").unwrap();
        scene.one().await;
    }
}

/// The kubelet's `AtomicWriter`: files are symlinks into `..data`, which is a symlink to a directory with a date.
fn write_config_map(volume: &Path, version: &str) {
    let dated = format!("..2026_{version}");
    fs::create_dir(volume.join(&dated)).unwrap();
    fs::write(volume.join(&dated).join("svc.yaml"), version).unwrap();
    symlink(&dated, volume.join("..data_tmp")).unwrap();
    let old = fs::read_link(volume.join("..data"));
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    match old {
        Ok(old) => fs::remove_dir_all(volume.join(old)).unwrap(),
        Err(_) => symlink("..data/svc.yaml", volume.join("svc.yaml")).unwrap(),
    }
}

#[tokio::test]
async fn a_config_map_is_swapped_time_and_again() {
    for input in ["volume", "volume/svc.yaml"] {
        let prepare = |at: &Path| {
            fs::create_dir(at.join("volume")).unwrap();
            write_config_map(&at.join("volume"), "1");
        };
        let mut scene = Scene::new(prepare, &[input]);
        for version in ["2", "3", "4"] {
            write_config_map(&scene.path("volume"), version);
            scene.one().await;
        }
    }
}

#[tokio::test]
async fn a_symlink_to_releases_elsewhere() {
    let prepare = |at: &Path| {
        for release in ["releases/1/manifests", "releases/2/manifests"] {
            fs::create_dir_all(at.join(release)).unwrap();
            fs::write(at.join(release).join("svc.yaml"), release).unwrap();
        }
        symlink(at.join("releases/1"), at.join("current")).unwrap();
    };
    let mut scene = Scene::new(prepare, &["current/manifests/svc.yaml"]);
    fs::write(scene.path("releases/2/manifests/svc.yaml"), "").unwrap();
    scene.none().await;
    symlink("releases/2", scene.path("next")).unwrap();
    fs::rename(scene.path("next"), scene.path("current")).unwrap();
    scene.one().await;
    fs::write(scene.path("releases/2/manifests/svc.yaml"), "").unwrap();
    scene.one().await;
    fs::write(scene.path("releases/1/manifests/svc.yaml"), "").unwrap();
    scene.none().await;
}

#[tokio::test]
async fn an_input_whose_directory_is_not_there_yet() {
    let mut scene = Scene::new(|_| {}, &["a/b/svc.yaml"]);
    fs::create_dir(scene.path("a")).unwrap();
    scene.one().await;
    fs::create_dir(scene.path("a/b")).unwrap();
    scene.one().await;
    fs::write(scene.path("a/b/svc.yaml"), "").unwrap();
    scene.one().await;
}

#[tokio::test]
async fn changes_without_end_are_told_of_all_the_same() {
    let mut scene = Scene::new(|at| fs::create_dir(at.join("manifests")).unwrap(), &["manifests"]);
    let path = scene.path("manifests/svc.yaml");
    let writer = tokio::spawn(async move {
        loop {
            fs::write(&path, "a").unwrap();
            sleep(Duration::from_millis(20)).await;
        }
    });
    for _ in 0..2 {
        timeout(SOON, scene.manifests.changed()).await.expect("a change");
    }
    writer.abort();
}

#[tokio::test]
async fn symlinks_in_a_circle_and_standard_input_are_no_places() {
    let mut scene = Scene::new(|at| symlink("svc.yaml", at.join("svc.yaml")).unwrap(), &["svc.yaml"]);
    scene.none().await;
    fs::remove_file(scene.path("svc.yaml")).unwrap();
    fs::write(scene.path("svc.yaml"), "").unwrap();
    scene.one().await;
    let mut stdin = Manifests::watch(&[PathBuf::from("-")]);
    assert!(timeout(LATER, stdin.changed()).await.is_err());
}
