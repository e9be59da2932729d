//! `svcproxy --iface … -f …`: reads the manifests, brings the datapath to what they say, stays to keep it so.
//!
//! In this order: nothing is touched before all input is read and valid, nothing is attached before the maps hold
//! the plan, and what was assigned is on disk before a packet can depend on it.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{RunArgs, cleanup, lock::Lock, network::NodeNetwork};
use crate::{
    datapath::{Datapath, links, preflight, sweep},
    input::{self, Input},
    manifest::Severity,
    model::{Endpoint, Model, Node, Service},
    plan::{self, Diff, Limits},
    state::State,
};

/// How often forgotten connections are taken out of the tables.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Runs the proxy until SIGINT or SIGTERM, or removes it (`--cleanup`). Exits 1 when the input has errors.
///
/// # Errors
///
/// Whatever keeps the datapath from being set up.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    if args.cleanup {
        cleanup::cleanup(&args.places)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.ifaces.is_empty() {
        bail!("no interface is given: name one with --iface (`ip link` lists them); `svcproxy --help` shows the rest");
    }
    args.input.node.policy()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(args))
}

async fn serve(args: &RunArgs) -> anyhow::Result<ExitCode> {
    // Before all else: a signal during the start shall not leave half of it behind.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hangup = signal(SignalKind::hangup())?;

    preflight::capabilities()?;
    preflight::btf()?;
    let _lock = Lock::acquire(&args.places.state_dir)?;
    let loaded = State::load(&args.places.state_dir, unix_seconds()?)?;
    if let Some(report) = loaded.set_aside {
        warn!("{report}");
    }
    let Some((model, state)) = read(args, &loaded.state)? else {
        return Ok(ExitCode::FAILURE);
    };
    let network = NodeNetwork::open(args).await?;

    if preflight::pin_dir(&args.places.pin_dir)? {
        info!("mounted a bpffs at /sys/fs/bpf");
    }
    let sizes = args.sizes.sizes();
    for (map, entries) in sizes.kept(&args.places.pin_dir) {
        warn!("{map} keeps the {entries} entries it was made with; `svcproxy --cleanup` first to change that");
    }
    let fresh = !Datapath::is_pinned(&args.places.pin_dir);
    let mut datapath = Datapath::load(Some(&args.places.pin_dir), &sizes)?;
    info!("tables take {} MiB of kernel memory", sizes.memory() >> 20);
    let mut proxy = Proxy {
        args,
        datapath: &mut datapath,
        network,
        model: Model::default(),
        state: State::default(),
        node: Node::default(),
        on_xdp: Vec::new(),
    };
    if let Err(error) = proxy.set_up(model, state) {
        if fresh {
            cleanup::remove_datapath(&args.places.pin_dir)?;
        }
        return Err(error);
    }
    preflight_forwarding();
    info!("ready");

    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = hangup.recv() => proxy.reload(),
            () = proxy.network.changed() => proxy.follow_network().await,
            _ = sweep.tick() => {
                proxy.datapath.maps.sweep(sweep::now())?;
            }
        }
    }
    info!("ends; the datapath stays and forwards (`svcproxy --cleanup` removes it)");
    Ok(ExitCode::SUCCESS)
}

/// A running proxy: the datapath, the network it is in, and what the manifests last said.
struct Proxy<'a> {
    args: &'a RunArgs,
    datapath: &'a mut Datapath,
    network: NodeNetwork,
    model: Model,
    state: State,
    /// This node as the maps have it.
    node: Node,
    /// Names of the interfaces that run XDP.
    on_xdp: Vec<String>,
}

impl Proxy<'_> {
    /// Brings the maps to what the manifests say.
    fn apply(&mut self, model: Model, state: State) -> anyhow::Result<()> {
        let complete = self.complete(&model);
        self.network.check(&complete)?;
        state.save(&self.args.places.state_dir)?;
        self.program(complete)?;
        for service in &model.services {
            let before = self.state.services.get(&service.name.to_string());
            if before.is_none_or(|before| before.cluster_ips != service.cluster_ips) {
                info!("{}", describe(service));
            }
        }
        self.model = model;
        self.state = state;
        Ok(())
    }

    /// The model with what the network says of this node.
    fn complete(&self, model: &Model) -> Model {
        Model {
            node: self.network.node(model),
            ..model.clone()
        }
    }

    /// Brings the maps to what a complete model says.
    fn program(&mut self, complete: Model) -> anyhow::Result<()> {
        let policy = self.args.input.node.policy()?;
        let current = self.datapath.maps.contents()?;
        let limits = Limits {
            backend_slots: self.args.sizes.backend_slots,
        };
        let wanted = plan::plan(&complete, &policy, &current, &limits)?;
        self.datapath.maps.apply(&Diff::between(&current, &wanted))?;
        self.node = complete.node;
        Ok(())
    }

    /// Brings all that depends on the network up to date. An error leaves what worked.
    async fn follow_network(&mut self) {
        let followed = match self.network.refresh().await {
            Ok(()) => self.adapt(),
            Err(error) => Err(error),
        };
        if let Err(error) = followed {
            error!("the network has changed, and not all of it is followed: {error:#}");
        }
    }

    fn adapt(&mut self) -> anyhow::Result<()> {
        self.attach_to_pods()?;
        if self.network.node(&self.model) == self.node {
            return Ok(());
        }
        let complete = self.complete(&self.model);
        let checked = self.network.check(&complete);
        self.program(complete)?;
        checked
    }

    fn attach_to_pods(&mut self) -> anyhow::Result<()> {
        let dir = self.links_dir();
        self.network.attach(self.datapath, &dir, &self.model)?;
        Ok(self.datapath.maps.set_interfaces(self.network.links(), &self.on_xdp)?)
    }

    fn links_dir(&self) -> PathBuf {
        self.args.places.pin_dir.join("links")
    }

    /// Reads the manifests again. An error leaves what worked.
    fn reload(&mut self) {
        let reloaded = read(self.args, &self.state).and_then(|read| match read {
            Some((model, state)) => {
                self.apply(model, state)?;
                self.attach_to_pods().map(|()| true)
            }
            None => Ok(false),
        });
        match reloaded {
            Ok(true) => info!("reloaded"),
            Ok(false) => error!("not reloaded: the last good state stays"),
            Err(error) => error!("not reloaded: {error:#}"),
        }
    }

    /// Programs the maps, then attaches to the listed interfaces: to all of them, or to none that was not attached
    /// before. Those of pods follow.
    fn set_up(&mut self, model: Model, state: State) -> anyhow::Result<()> {
        self.apply(model, state)?;
        let dir = self.links_dir();
        let before = links::pinned(&dir)?;
        let listed = self.network.attach_listed(self.datapath, &dir, self.args.mode.into());
        let attached = listed.and_then(|on_xdp| {
            self.on_xdp = on_xdp;
            self.attach_to_pods()
        });
        if attached.is_err() {
            links::keep_only(&dir, &before)?;
        }
        attached
    }
}

/// Reads the manifests and prints what there is to say. `None` when they have errors.
fn read(args: &RunArgs, state: &State) -> anyhow::Result<Option<(Model, State)>> {
    let options = args.input.node.options()?;
    let Input {
        model,
        state,
        diagnostics,
        ..
    } = input::read(&args.input.filenames, &options, state);
    for diagnostic in &diagnostics {
        match diagnostic.severity {
            Severity::Error => error!("{diagnostic}"),
            Severity::Warning => warn!("{diagnostic}"),
            Severity::Notice => info!("{diagnostic}"),
        }
    }
    Ok(model.map(|model| (model, state)))
}

/// `Service default/kubia: 10.96.175.78, 80/TCP to 3 endpoints`, counting those of the primary address's family.
fn describe(service: &Service) -> String {
    let addresses: Vec<_> = service.cluster_ips.iter().map(ToString::to_string).collect();
    let primary = service.cluster_ips.first();
    let ports = service.ports.iter().map(|port| {
        let of_family = |endpoint: &&Endpoint| primary.is_none_or(|ip| ip.is_ipv4() == endpoint.address.is_ipv4());
        let (ready, all) = port
            .endpoints
            .iter()
            .filter(of_family)
            .fold((0, 0), |(ready, all), endpoint| {
                (ready + usize::from(endpoint.ready), all + 1)
            });
        let endpoints = match (ready, all) {
            (1, 1) => "1 endpoint".to_owned(),
            (ready, all) if ready == all => format!("{all} endpoints"),
            (ready, all) => format!("{ready} ready of {all} endpoints"),
        };
        format!("{}/{} to {endpoints}", port.port, port.protocol)
    });
    let ports: Vec<_> = ports.collect();
    format!(
        "Service {}: {}, {}",
        service.name,
        addresses.join(","),
        ports.join(", ")
    )
}

/// Packets that the programs leave to the kernel's routing need it to forward.
fn preflight_forwarding() {
    for (family, file) in [("IPv4", "ipv4/ip_forward"), ("IPv6", "ipv6/conf/all/forwarding")] {
        let path = Path::new("/proc/sys/net").join(file);
        if std::fs::read_to_string(&path).is_ok_and(|value| value.trim() == "0") {
            warn!(
                "{family} forwarding is off: pods are reached only once `sysctl -w net.{}=1`",
                file.replace('/', ".")
            );
        }
    }
}

fn unix_seconds() -> anyhow::Result<u64> {
    Ok(SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("the clock is before 1970")?
        .as_secs())
}
