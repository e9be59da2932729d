//! svcproxy in the lab's node: started, asked, stopped, started again.

use std::{
    fs::{self, File},
    net::IpAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    built_executable,
    lab::{Lab, detach},
};

/// Starting and stopping must not take longer, with thousands of Services neither.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running svcproxy. Dropping it ends it as `kill` would; its datapath stays, as it should.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Lab {
    /// Starts svcproxy in the node on `eth0` with the lab's manifests and waits until it is ready.
    pub fn start_daemon(&self, mode: &str) -> Result<Daemon> {
        self.start_daemon_with(&["--iface", "eth0", "--mode", mode])
    }

    /// Starts svcproxy in the node with flags of one's own and waits until it is ready.
    pub fn start_daemon_with(&self, flags: &[&str]) -> Result<Daemon> {
        let mut daemon = self.launch_daemon(flags)?;
        daemon.wait_ready()?;
        Ok(daemon)
    }

    /// Starts svcproxy in the node and does not wait.
    pub fn launch_daemon(&self, flags: &[&str]) -> Result<Daemon> {
        let log = self.directory().join("daemon.log");
        let output = File::create(&log)?;
        let mut command = self.daemon_command(flags, &self.place_flags())?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        detach(&mut command);
        Ok(Daemon {
            child: self.node.spawn(&mut command)?,
            log,
        })
    }

    /// Runs svcproxy in the node until it ends by itself: its exit status, and what it said.
    pub fn run_daemon(&self, flags: &[&str]) -> Result<(ExitStatus, String)> {
        self.run_command(self.daemon_command(flags, &self.place_flags())?)
    }

    /// [`run_daemon`](Self::run_daemon), with pins and state of its own.
    pub fn run_stranger(&self, flags: &[&str]) -> Result<(ExitStatus, String)> {
        let pins = format!("--pin-dir={}", self.directory().join("bpf/stranger").display());
        let state = format!("--state-dir={}", self.directory().join("stranger").display());
        self.run_command(self.daemon_command(flags, &[pins, state])?)
    }

    /// [`run_daemon`](Self::run_daemon), started by another command such as `setpriv`.
    pub fn run_daemon_under(&self, wrapper: &[&str], flags: &[&str]) -> Result<(ExitStatus, String)> {
        let daemon = self.daemon_command(flags, &self.place_flags())?;
        let (program, arguments) = wrapper.split_first().context("no command")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .arg(daemon.get_program())
            .args(daemon.get_args());
        self.run_command(command)
    }

    fn run_command(&self, mut command: Command) -> Result<(ExitStatus, String)> {
        let log = self.directory().join("refused.log");
        let output = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = self.node.spawn(&mut command)?;
        let mut daemon = Daemon { child, log };
        let status = daemon.wait().context("svcproxy should have refused to run")?;
        Ok((status, daemon.log()))
    }

    /// Removes every trace of svcproxy, as `svcproxy --cleanup` promises.
    pub fn cleanup(&self) -> Result<String> {
        let [pins, state] = self.place_flags();
        self.node
            .run(built_executable("svcproxy")?, &["--cleanup", &pins, &state])
    }

    /// What `svcproxy get …` prints in the node.
    pub fn get(&self, arguments: &[&str]) -> Result<String> {
        let [pins, state] = self.place_flags();
        self.node.run(
            built_executable("svcproxy")?,
            &[&["get"], arguments, &[&pins, &state]].concat(),
        )
    }

    /// What `svcproxy explain …` prints in the node about the running datapath.
    pub fn explain(&self, arguments: &[&str]) -> Result<String> {
        let [pins, state] = self.place_flags();
        self.node.run(
            built_executable("svcproxy")?,
            &[&["explain"], arguments, &[&pins, &state]].concat(),
        )
    }

    /// The directory of the pinned maps and links.
    pub fn pin_dir(&self) -> PathBuf {
        self.directory().join("bpf/svcproxy")
    }

    /// The directory of the state file.
    pub fn state_dir(&self) -> PathBuf {
        self.directory().join("state")
    }

    /// The cluster IPs of `namespace/name`, from the state file.
    pub fn cluster_ips(&self, service: &str) -> Result<Vec<IpAddr>> {
        let path = self.state_dir().join("state.json");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let state: serde_json::Value = serde_json::from_str(&text)?;
        let ips = state["services"][service]["clusterIPs"].as_array();
        let ips = ips.with_context(|| format!("no Service {service} in {text}"))?;
        Ok(ips.iter().filter_map(|ip| ip.as_str()?.parse().ok()).collect())
    }

    fn daemon_command(&self, flags: &[&str], places: &[String]) -> Result<Command> {
        let mut command = Command::new(built_executable("svcproxy")?);
        command
            .args(flags)
            .arg("-f")
            .arg(self.directory().join("manifests"))
            .args(places);
        Ok(command)
    }

    fn place_flags(&self) -> [String; 2] {
        [
            format!("--pin-dir={}", self.pin_dir().display()),
            format!("--state-dir={}", self.state_dir().display()),
        ]
    }
}

impl Daemon {
    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it says `text`, after the first `from` bytes of its log.
    pub fn wait_for(&self, text: &str, from: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().get(from..).unwrap_or_default().contains(text) {
            if Instant::now() > deadline {
                bail!("svcproxy does not say {text:?}:\n{}", self.log());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Asks it to end with SIGTERM and waits until it has.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.terminate()?;
        self.wait()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).context("svcproxy is gone")
    }

    /// Leaves it running for good.
    pub fn keep(self) {
        std::mem::forget(self);
    }

    fn terminate(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Waits until it is ready.
    pub fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().lines().any(|line| line.ends_with(" ready")) {
            if let Some(status) = self.child.try_wait()? {
                bail!("svcproxy ended ({status}):\n{}", self.log());
            }
            if Instant::now() > deadline {
                bail!("svcproxy is not ready after {} s:\n{}", PATIENCE.as_secs(), self.log());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("svcproxy still runs after {} s:\n{}", PATIENCE.as_secs(), self.log());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- svcproxy said:\n{}---", self.log());
        }
        if let Ok(None) = self.child.try_wait() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}
