//! Running other commands: shown before they run, bounded in time, with their failure turned into an error.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// The executable `name` in `PATH`, and where a user's `PATH` lacks them in the system's own directories.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Prints the command, runs it and waits; an exit code other than 0 is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    eprintln!("  $ {shown}");
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// [`run`], but killed after `limit`: for what hangs on a machine without a network.
pub fn run_within(limit: Duration, command: &mut Command) -> Result<()> {
    let shown = show(command);
    eprintln!("  $ {shown}");
    let mut child = command.spawn().with_context(|| format!("cannot start `{shown}`"))?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                bail!("`{shown}` failed: {status}");
            }
            return Ok(());
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("`{shown}` took more than {} s", limit.as_secs());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// What the command prints, trimmed; `None` when it cannot be started or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// `command` as root: itself when we are root, else through sudo.
pub fn as_root(command: &str) -> Command {
    if is_root() {
        return Command::new(command);
    }
    let mut sudo = Command::new("sudo");
    sudo.arg(command);
    sudo
}

/// Whether this process is root's.
pub fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_some_and(|id| id == "0")
}

fn show(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
