//! Traffic from a client through the node to a pod: plain routing, rules as kube-proxy writes them, and svcproxy.
//!
//! Every variant has a lab of its own, and all labs stand at once: they are used in turn.

mod rules;
mod server;
mod traffic;
mod udp;

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use svcproxy_tests::{
    daemon::Daemon,
    lab::Lab,
    topology::{CLIENT, PodSpec, Topology},
};

pub(crate) use self::server::serve;
use self::udp::Sender;
use crate::{
    Effort, cpu, manifests,
    report::{Row, Series},
};

/// Slots for all Services.
const BACKEND_SLOTS: &str = "--backend-slots=1048576";

/// What stands between the client and the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Between {
    /// The client knows the pod's address.
    Routing,
    /// kube-proxy's shape of rules.
    Nftables,
    /// The same, the older.
    Iptables,
    /// svcproxy in this mode.
    Svcproxy(&'static str),
}

impl Between {
    const fn name(self) -> &'static str {
        match self {
            Self::Routing => "routing",
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
            Self::Svcproxy(mode) => mode,
        }
    }
}

/// A chain, ready for traffic.
struct Chain {
    name: String,
    lab: Lab,
    /// The address that the client connects to.
    target: Ipv4Addr,
    ports: Ports,
    sender: Sender,
    _daemon: Option<Daemon>,
}

/// Where the three servers are met.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    /// TCP, answers every byte.
    echo: u16,
    /// TCP, swallows everything.
    sink: u16,
    /// UDP, answers what asks for it.
    datagrams: u16,
}

/// In the pod.
const POD: Ports = Ports {
    echo: 9000,
    sink: 9001,
    datagrams: 9002,
};

/// At the Service.
const SERVICE: Ports = Ports {
    echo: 80,
    sink: 81,
    datagrams: 82,
};

/// What is measured of a chain.
#[derive(Debug, Clone, Copy)]
enum Measure {
    Connections,
    Latency,
    Bulk,
    Datagrams,
}

impl Measure {
    const ALL: [Self; 4] = [Self::Connections, Self::Latency, Self::Bulk, Self::Datagrams];

    /// Names and units of its figures.
    const fn figures(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Connections => &[("connections", "1/s")],
            Self::Latency => &[("latency-p50", "µs"), ("latency-p99", "µs")],
            Self::Bulk => &[("bulk", "Gb/s")],
            Self::Datagrams => &[("datagrams", "k/s")],
        }
    }
}

/// Takes the measurements.
pub(crate) fn run(effort: Effort) -> Result<Vec<Row>> {
    let (counts, rounds, seconds): (&[u32], usize, f64) = match effort {
        Effort::Quick => (&[5_000], 12, 0.05),
        Effort::Full => (&[1, 100, 5_000], 112, 0.05),
    };
    let mut chains = vec![Chain::build(Between::Routing, 0)?];
    for &count in counts {
        for between in [
            Between::Nftables,
            Between::Iptables,
            Between::Svcproxy("auto"),
            Between::Svcproxy("xdp"),
        ] {
            chains.push(
                Chain::build(between, count).with_context(|| format!("{} with {count} Services", between.name()))?,
            );
        }
    }
    // By chain, measure and figure.
    let mut samples = vec![Measure::ALL.map(|measure| vec![Vec::new(); measure.figures().len()]); chains.len()];
    let mut order: Vec<_> = (0..chains.len()).collect();
    let mut random = fastrand::Rng::with_seed(order.len() as u64);
    for _ in 0..rounds {
        // One measure of all chains, then the next: what is compared is sampled within seconds. In another order each time,
        // as a sample depends on what has been measured before it.
        for (nth, measure) in Measure::ALL.into_iter().enumerate() {
            random.shuffle(&mut order);
            for &at in &order {
                let (chain, samples) = (&mut chains[at], &mut samples[at]);
                let measured = chain
                    .measure(measure, seconds)
                    .with_context(|| format!("{measure:?} of the chain {}", chain.name))?;
                for (samples, figure) in samples[nth].iter_mut().zip(measured) {
                    samples.push(figure);
                }
            }
        }
    }
    let mut rows = Vec::new();
    for (nth, measure) in Measure::ALL.into_iter().enumerate() {
        for (figure, (what, unit)) in measure.figures().iter().enumerate() {
            let plain = &samples[0][nth][figure];
            for (chain, samples) in chains.iter().zip(&samples) {
                let series = Series {
                    name: format!("chain/{what}/{}", chain.name),
                    unit,
                    samples: samples[nth][figure].clone(),
                    versus: (chain.name != "routing").then(|| (format!("chain/{what}/routing"), plain.clone())),
                };
                rows.push(series.row());
            }
        }
    }
    Ok(rows)
}

impl Chain {
    fn build(between: Between, count: u32) -> Result<Self> {
        // XDP sees frames as from a wire; everything else gets what a veth gives.
        let wire = between == Between::Svcproxy("xdp");
        let pod = PodSpec::new("pod", 11);
        let IpAddr::V4(address) = pod.addresses()[0] else {
            bail!("a pod's first address is IPv4");
        };
        let lab = Lab::new(&Topology {
            pods: vec![pod],
            wire,
            ..Topology::default()
        })?;
        // A veth takes redirected frames only into NAPI.
        lab.node.run("ethtool", &["-K", "eth0", "gro", "on"])?;
        let mut server = Command::new(std::env::current_exe()?);
        server.arg("serve").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut server = lab.pods[0].namespace.enter(|| {
            cpu::pin(1)?;
            server.spawn().context("cannot start the servers")
        })?;
        server::wait_until_ready(&mut server)?;

        let mut daemon = None;
        match between {
            Between::Routing => {}
            Between::Nftables => apply(&lab, "nft", &["-f"], &rules::nftables(count, address))?,
            Between::Iptables => apply(&lab, "iptables-restore", &[], &rules::iptables(count, address))?,
            Between::Svcproxy(mode) => {
                let IpAddr::V4(client) = CLIENT[0] else {
                    bail!("the client's first address is IPv4");
                };
                lab.node
                    .ip(&format!("route add {} via {client}", manifests::ELSEWHERE))?;
                let mut files = manifests::files(count, &[]);
                files.pop();
                files.push((manifests::LAST.to_owned(), rules::manifest(count - 1, address)));
                let files: Vec<_> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
                lab.set_manifests(&files)?;
                daemon = Some(lab.start_daemon_with(&["--iface", "eth0", "--mode", mode, BACKEND_SLOTS])?);
            }
        }
        let (name, target, ports) = match between {
            Between::Routing => (between.name().to_owned(), address, POD),
            _ => (
                format!("{}/{count}-services", between.name()),
                manifests::cluster_ip(count - 1),
                SERVICE,
            ),
        };
        let sender = Sender::new(&lab, target, ports.datagrams)?;
        Ok(Self {
            name,
            lab,
            target,
            ports,
            sender,
            _daemon: daemon,
        })
    }

    /// In the order of [`Measure::figures`].
    fn measure(&mut self, measure: Measure, seconds: f64) -> Result<Vec<f64>> {
        let Self { lab, target, ports, .. } = self;
        let at = |port| SocketAddr::from((*target, port));
        // Client and server never share a processor, or answers would come four times as quickly now and then.
        let from_client = |sample: &(dyn Fn() -> Result<Vec<f64>> + Sync)| {
            lab.client.enter(|| {
                cpu::pin(0)?;
                sample()
            })
        };
        match measure {
            Measure::Connections => from_client(&|| Ok(vec![traffic::connections(at(ports.echo), seconds)?])),
            Measure::Latency => from_client(&|| Ok(traffic::latency(at(ports.echo), seconds)?.to_vec())),
            Measure::Bulk => from_client(&|| Ok(vec![traffic::bulk(at(ports.sink), seconds)?])),
            Measure::Datagrams => Ok(vec![self.sender.rate(lab, seconds)?]),
        }
    }
}

/// Hands rules to a command in the node, by way of a file.
fn apply(lab: &Lab, command: &str, arguments: &[&str], rules: &str) -> Result<()> {
    let file = lab.directory().join("rules");
    std::fs::write(&file, rules)?;
    let path = file.display().to_string();
    File::open(&file).with_context(|| format!("cannot open {path}"))?;
    lab.node.run(command, &[arguments, &[&path]].concat()).map(drop)
}
