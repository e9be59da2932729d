//! The `lab` command: the demo, a lab to play with, and the server that runs in its pods.

#![forbid(unsafe_code)]

use std::{
    env,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use svcproxy_tests::{built_executable, demo, lab::Lab, leftovers, manifest, server, topology::Topology};

/// The name of the lab that `lab up` makes.
const PLAY: &str = "play";

#[derive(Parser)]
#[command(about = "A client, a node and three pods in network namespaces, with svcproxy in the node")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show and check what svcproxy does, then remove everything
    Demo,
    /// Make a lab and leave it running, with svcproxy in its node
    Up {
        /// The daemon's --mode
        #[arg(long, default_value = "auto")]
        mode: String,
    },
    /// Run a command in the lab
    Exec {
        /// Where: `client`, `node`, or the start of a pod's name
        place: String,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Remove the lab, and those of killed runs
    Down,
    /// Serve as a pod (what the lab runs in its pods)
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        name: String,
        #[arg(long = "port")]
        ports: Vec<u16>,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Demo => demo::run(),
        Task::Up { mode } => up(&mode),
        Task::Exec { place, command } => exec(&place, &command),
        Task::Down => leftovers::remove(PLAY).and_then(|()| leftovers::sweep()),
        Task::Serve { name, ports } => server::serve(&name, &ports).map(|never| match never {}),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn up(mode: &str) -> Result<()> {
    if leftovers::directory(PLAY).exists() {
        bail!("the lab is up already; `cargo xtask lab down` removes it");
    }
    let lab = Lab::named(PLAY, &Topology::default())?;
    let service = manifest::Service::new("kubia")
        .port("http", "TCP", 80, "8080")
        .port("echo", "UDP", 7, "8080");
    let pods: String = lab
        .pods
        .iter()
        .map(|pod| manifest::pod(&pod.name, &pod.addresses, &[]))
        .collect();
    let manifests = lab.set_manifests(&[("kubia.yaml", &service.yaml()), ("pods.yaml", &pods)])?;
    let daemon = lab.start_daemon(mode)?;
    print!("{}", daemon.log());
    let address = lab.cluster_ips("default/kubia")?[0];
    println!(
        "\nThe lab is up; its manifests are in {}. Try:\n  \
         cargo xtask lab exec client -- curl http://{address}\n  \
         cargo xtask lab exec node -- svcproxy get services\n  \
         cargo xtask lab exec {} -- ip addr\n  \
         cargo xtask lab down",
        manifests.display(),
        lab.pods[0].name
    );
    daemon.keep();
    lab.keep()
}

fn exec(place: &str, command: &[String]) -> Result<()> {
    let start = format!("{}{place}", leftovers::prefix(PLAY));
    let matching: Vec<_> = leftovers::namespaces(PLAY)
        .into_iter()
        .filter(|namespace| namespace.name().starts_with(&start))
        .collect();
    let namespace = match matching.as_slice() {
        [one] => one,
        [] => bail!("nothing in the lab is called {place}…; `cargo xtask lab up` makes the lab"),
        many => match many.iter().find(|namespace| namespace.name() == start) {
            Some(exact) => exact,
            None => bail!(
                "{place}… may be {} of the lab's places; write more of the name",
                many.len()
            ),
        },
    };
    namespace.join()?;
    let (program, arguments) = command.split_first().context("no command")?;
    let path = env::var_os("PATH").unwrap_or_default();
    let built = built_executable("lab")?;
    let built = built.parent().map(Into::into);
    let directories = built.into_iter().chain(env::split_paths(&path));
    let error = Command::new(program)
        .args(arguments)
        // The daemon of this build, and its maps.
        .env("PATH", env::join_paths(directories)?)
        .env("SVCPROXY_PIN_DIR", leftovers::directory(PLAY).join("bpf/svcproxy"))
        .env("SVCPROXY_STATE_DIR", leftovers::directory(PLAY).join("state"))
        .exec();
    Err(error).with_context(|| format!("cannot run {program}"))
}
