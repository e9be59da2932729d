//! One network namespace: created, entered, given addresses, asked to run commands.
//!
//! Only the network is separate. Commands see the machine's own mounts (`ip netns exec` would hide the bpffs), and a
//! process started here keeps the pid it was started with.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use crate::leftovers;

/// Where iproute2 keeps named network namespaces.
pub const DIRECTORY: &str = "/run/netns";

/// A named network namespace. Dropping it leaves the namespace alone.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates the namespace, its loopback up.
    pub fn create(name: &str) -> Result<Self> {
        run(Command::new("ip").args(["netns", "add", name]))?;
        let namespace = Self::existing(name);
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// A namespace that exists.
    pub fn existing(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    /// Its name in `/run/netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Calls `f` on a thread in this namespace and returns what it returns.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let entered = || {
            self.join().unwrap_or_else(|error| {
                leftovers::unless_ending();
                panic!("{error:#}")
            });
            f()
        };
        thread::scope(|scope| scope.spawn(entered).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Moves the calling thread into this namespace, for good.
    pub fn join(&self) -> Result<()> {
        let path = self.path();
        let file = File::open(&path).with_context(|| format!("no namespace {}", path.display()))?;
        setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {}", path.display()))
    }

    /// Starts a command here.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let program = command.get_program().to_owned();
        self.enter(|| command.spawn())
            .with_context(|| format!("cannot start {}", program.display()))
    }

    /// Runs a command here and returns what it printed; a failure is an error that quotes it.
    pub fn run(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program.as_ref());
        command.args(arguments);
        self.enter(|| run(&mut command))
    }

    /// Runs `ip` commands here, one a line.
    pub fn ip(&self, commands: &str) -> Result<()> {
        let mut ip = Command::new("ip")
            .args(["-netns", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start ip")?;
        if let Some(mut stdin) = ip.stdin.take() {
            stdin.write_all(commands.as_bytes())?;
        }
        let output = ip.wait_with_output()?;
        if !output.status.success() {
            bail!(
                "ip in {}: {}",
                self.name,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    }

    /// Writes settings below `/proc/sys/net`, each `path=value`.
    pub fn sysctl(&self, settings: &[&str]) -> Result<()> {
        let write = |setting: &&str| {
            let (key, value) = setting
                .split_once('=')
                .with_context(|| format!("no `=` in {setting}"))?;
            fs::write(Path::new("/proc/sys/net").join(key), value)
                .with_context(|| format!("cannot set {setting} in {}", self.name))
        };
        self.enter(|| settings.iter().try_for_each(write))
    }

    /// The processes that live here.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let text = run(Command::new("ip").args(["netns", "pids", &self.name]))?;
        Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect())
    }

    /// Removes the name; the namespace goes with its last process.
    pub fn delete(&self) -> Result<()> {
        run(Command::new("ip").args(["netns", "del", &self.name])).map(drop)
    }

    fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }
}

/// Runs a command and returns its standard output; a failure is an error that quotes all it said.
pub fn run(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}").replace('"', "");
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        leftovers::unless_ending();
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{shown}` failed ({}): {}{}",
            output.status,
            stdout.trim(),
            stderr.trim()
        );
    }
    Ok(stdout)
}
