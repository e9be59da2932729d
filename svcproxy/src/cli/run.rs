//! `svcproxy --iface … -f …`: reads the manifests, brings the datapath to what they say, stays to keep it so.
//!
//! In this order: nothing of a running datapath is touched before all input is read and valid, nothing is attached
//! before the maps hold the plan, and what was assigned is on disk before a packet can depend on it.

use std::{
    io::IsTerminal as _,
    path::Path,
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use nix::time::{ClockId, clock_gettime};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, interval_at},
};
use tracing::{info, warn};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{RunArgs, changes::Reader, cleanup, heap, lock::Lock, network::NodeNetwork, proxy::Proxy};
use crate::{
    datapath::{Datapath, DatapathError, preflight},
    health::{Health, ProxyServer},
    manifest::Changed,
    state::State,
    watch::Manifests,
};

/// How often forgotten connections are taken out of the tables, and what has failed is tried again.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// How often it is looked whether endpoints can be reached, when nothing has changed: nobody tells when a neighbour has
/// stopped to answer.
const REACH_INTERVAL: Duration = Duration::from_secs(5);

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
    // The worker answers probes while the proxy itself, on this thread, is at work.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
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
    let health = Arc::new(Health::default());
    let _health_server = match ProxyServer::start(args.healthz_bind_address, health.clone()) {
        Ok(server) => Some(server),
        Err(error) => {
            warn!(
                "no /healthz on {}: {error}; choose another with --healthz-bind-address",
                args.healthz_bind_address
            );
            None
        }
    };
    // Listens before it reads: what changes in between is read again.
    let mut manifests = Manifests::watch(&args.input.filenames);
    let mut reader = Reader::new(args);
    let network = NodeNetwork::open(args).await?;

    let pin_dir = &args.places.pin_dir;
    if preflight::pin_dir(pin_dir)? {
        info!("mounted a bpffs at /sys/fs/bpf");
    }
    let sizes = args.sizes.sizes();
    for (map, entries) in sizes.kept(pin_dir) {
        warn!("{map} keeps the {entries} entries it was made with; `svcproxy --cleanup` first to change that");
    }
    let fresh = !Datapath::is_pinned(pin_dir);
    let begun = thread::scope(|scope| {
        // The kernel verifies programs while the manifests are read: both take long.
        let loading = scope.spawn(|| Datapath::load(Some(pin_dir), &sizes));
        let read = reader.read(&Changed::Anything, &loaded.state);
        let datapath = loading.join().expect("it does not panic");
        let datapath = datapath.inspect_err(|error| write_verifier_log(args, error));
        match read? {
            Some(read) => Ok(Some((datapath?, read))),
            None => Ok(None),
        }
    });
    let Ok(Some((mut datapath, (model, memory)))) = begun else {
        if fresh {
            cleanup::remove_datapath(pin_dir)?;
        }
        return begun.map(|_| ExitCode::FAILURE);
    };
    info!("tables take {} MiB of kernel memory", sizes.memory() >> 20);
    datapath.tc_attach = args.tc_attach.or(datapath.tc_attach);
    if let Some(without) = datapath.features.without() {
        info!("{without}");
    }
    let mut proxy = Proxy::new(args, &mut datapath, network, reader, health);
    if let Err(error) = proxy.set_up(model, memory) {
        if fresh {
            cleanup::remove_datapath(pin_dir)?;
        }
        return Err(error);
    }
    heap::trim();
    proxy.follow_endpoints().await;
    preflight_forwarding();
    info!("ready");

    let mut sweep = interval_at(Instant::now() + SWEEP_INTERVAL, SWEEP_INTERVAL);
    let mut reach = interval_at(Instant::now() + REACH_INTERVAL, REACH_INTERVAL);
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = hangup.recv() => proxy.reload(&Changed::Everything),
            changed = manifests.changed() => proxy.reload(&changed),
            () = proxy.network.changed() => {
                let before = processor_time();
                proxy.follow_network().await;
                proxy.follow_endpoints().await;
                proxy.network.rest(processor_time().saturating_sub(before));
                continue;
            }
            _ = sweep.tick() => proxy.sweep()?,
            _ = reach.tick() => {}
        }
        proxy.follow_endpoints().await;
    }
    info!("ends; the datapath stays and forwards (`svcproxy --cleanup` removes it)");
    Ok(ExitCode::SUCCESS)
}

/// Writes what the verifier said of a program that it refused, where `--verifier-log` asks for it.
fn write_verifier_log(args: &RunArgs, error: &DatapathError) {
    let (Some(path), Some(log)) = (&args.verifier_log, error.verifier_log()) else {
        return;
    };
    match std::fs::write(path, log) {
        Ok(()) => info!("the verifier's log is in {}", path.display()),
        Err(error) => warn!("cannot write the verifier's log: {}: {error}", path.display()),
    }
}

/// What this process has had of the processors.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
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
