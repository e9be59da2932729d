//! The node's network as a run follows it: what it adds to the model, and which interfaces it makes us attach to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use tracing::{info, warn};

use super::RunArgs;
use crate::{
    datapath::{
        Datapath, DatapathError,
        links::{Attached, Hook, Mode},
        pins,
    },
    model::{Model, Node, NodePolicy, Service},
    network::{
        Behind, InterfacePattern, Link, Monitor, Overlap, Snapshot, interfaces_of_pods, node_addresses, overlaps,
        taken_cluster_ips, unreachable_node_ports,
    },
};

/// The network of this node, and what of it the datapath has taken up.
pub(super) struct NodeNetwork {
    monitor: Monitor,
    snapshot: Snapshot,
    policy: NodePolicy,
    /// `--iface`
    patterns: Vec<InterfacePattern>,
    /// Those of them that name an interface which is not there.
    missing: BTreeSet<String>,
    /// `--mode`, for the interfaces of `--iface`.
    mode: Mode,
    /// Whether pods' interfaces are attached to by themselves.
    auto_attach: bool,
    /// What is attached to, by ifindex.
    attached: BTreeMap<u32, Held>,
    /// Real networks within a service range, all of which have appeared since the start.
    overlaps: Vec<Overlap>,
    /// Interfaces that could not be attached to, by ifindex, and what was said of them.
    refused: BTreeMap<u32, String>,
    /// Warnings about Services that still hold; each is given once.
    warned: BTreeSet<String>,
}

/// An interface that is attached to.
struct Held {
    name: String,
    /// Whether because of `--iface`.
    listed: bool,
    ingress: Hook,
}

/// Why an interface is to be attached to.
enum Cause {
    /// `--iface`
    Listed,
    /// Pods, or connections.
    Behind(Behind),
}

impl NodeNetwork {
    /// Reads the network for the first time.
    ///
    /// # Errors
    ///
    /// With `--require-iface`, when an interface of `--iface` is missing; when the service range would swallow a real network.
    pub(super) async fn open(args: &RunArgs) -> anyhow::Result<Self> {
        let policy = args.input.node.policy()?;
        let monitor = Monitor::open()?;
        let snapshot = monitor.snapshot().await?;
        if args.require_iface {
            for name in args.ifaces.iter().filter(|pattern| pattern.is_name()) {
                Link::named(&snapshot.links, &name.to_string())?;
            }
        }
        if let Some(overlap) = overlaps(&snapshot, &policy.service_ranges, &policy.cluster_cidrs).first() {
            bail!("{}", refusal(overlap));
        }
        Ok(Self {
            monitor,
            snapshot,
            policy,
            patterns: args.ifaces.clone(),
            missing: BTreeSet::new(),
            mode: args.mode.into(),
            auto_attach: args.auto_attach,
            attached: BTreeMap::new(),
            overlaps: Vec::new(),
            refused: BTreeMap::new(),
            warned: BTreeSet::new(),
        })
    }

    /// The network as it was last read.
    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What it is read with.
    pub(super) fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// Waits until the network has changed.
    pub(super) async fn changed(&mut self) {
        self.monitor.changed().await;
    }

    /// Says how long it took to follow the last change.
    pub(super) fn rest(&mut self, cost: Duration) {
        self.monitor.rest(cost);
    }

    /// Reads the network again, and tells of real networks that have appeared within a service range.
    pub(super) async fn refresh(&mut self) -> anyhow::Result<()> {
        self.snapshot = self.monitor.snapshot().await?;
        let found = overlaps(&self.snapshot, &self.policy.service_ranges, &self.policy.cluster_cidrs);
        for overlap in found.iter().filter(|overlap| !self.overlaps.contains(overlap)) {
            warn!(
                "{overlap} lies within {} of --service-cluster-ip-range: what no Service has there is not dropped any more",
                overlap.range
            );
        }
        for overlap in self.overlaps.iter().filter(|overlap| !found.contains(overlap)) {
            info!("{overlap} is gone: what no Service has there is dropped again");
        }
        self.overlaps = found;
        Ok(())
    }

    /// A node of manifests on this network: with the addresses of the interfaces, and the real networks within the
    /// service ranges.
    pub(super) fn node(&self, node: &Node, services: &[Arc<Service>]) -> Node {
        let mut node = node.clone();
        let cluster_ips = services.iter().flat_map(|service| &service.cluster_ips);
        for ip in node_addresses(&self.snapshot, &cluster_ips.copied().collect()) {
            if !node.addresses.contains(&ip) {
                node.addresses.push(ip);
            }
        }
        let networks: BTreeSet<_> = self.overlaps.iter().map(|overlap| overlap.network).collect();
        node.foreign_networks = networks.into_iter().collect();
        node.destination_routed.clone_from(&self.snapshot.destination_routed);
        node
    }

    /// Refuses cluster IPs that an interface has, and warns of nodePorts that nothing answers on. `complete` is a model
    /// with [`node`](Self::node)'s node.
    ///
    /// # Errors
    ///
    /// When there is such a cluster IP.
    pub(super) fn check(&mut self, complete: &Model) -> anyhow::Result<()> {
        if let Some((service, ip, interface)) = taken_cluster_ips(&self.snapshot, complete).next() {
            bail!(
                "Service {service}: its cluster IP {ip} is an address of {interface}: every other port there would be refused; \
                 write it as an entry of `externalIPs`, or give the Service another clusterIP"
            );
        }
        let warnings: BTreeSet<String> = unreachable_node_ports(complete, &self.policy).into_iter().collect();
        for warning in warnings.difference(&self.warned) {
            warn!("{warning}");
        }
        self.warned = warnings;
        Ok(())
    }

    /// Names of the interfaces that run XDP.
    pub(super) fn on_xdp(&self) -> Vec<String> {
        let on_xdp = self.attached.values().filter(|held| held.ingress == Hook::Xdp);
        on_xdp.map(|held| held.name.clone()).collect()
    }

    /// Attaches to the interfaces of `--iface` and, once they are, to those of pods, and detaches from those that are
    /// neither any more. What cannot be attached to is a warning, and tried again.
    ///
    /// # Errors
    ///
    /// When the pinned links cannot be changed, and at the start when an interface of `--iface` cannot be attached to.
    pub(super) fn attach(
        &mut self,
        datapath: &mut Datapath,
        dir: &Path,
        model: &Model,
        starting: bool,
    ) -> anyhow::Result<()> {
        self.report_missing();
        let mut wanted = self.wanted(model);
        self.keep_for_connections(&mut wanted, datapath, dir)?;
        self.attached.retain(|index, held| {
            wanted
                .get(index)
                .is_some_and(|(link, cause)| link.name == held.name && matches!(cause, Cause::Listed) == held.listed)
        });
        self.refused.retain(|index, _| wanted.contains_key(index));
        // Links of an earlier run are kept for what is attached next: the programs are swapped inside them.
        let keep: Vec<Link> = wanted.values().map(|(link, _)| link.clone()).collect();
        for link in pins::detach_others(dir, &keep).context("cannot detach")? {
            info!("detached {link}: its interface is gone, or neither listed nor one of pods");
        }
        for (index, (link, cause)) in wanted {
            if self.attached.contains_key(&index) {
                continue;
            }
            let mode = match cause {
                Cause::Listed => self.mode,
                Cause::Behind(_) => Mode::Tc,
            };
            match datapath.attach(dir, &link, mode) {
                Ok(attached) => {
                    match &cause {
                        Cause::Listed => report(&link, &attached, &attached.why),
                        Cause::Behind(why) => report(&link, &attached, why),
                    }
                    self.refused.remove(&index);
                    let held = Held {
                        name: link.name,
                        listed: matches!(cause, Cause::Listed),
                        ingress: attached.ingress,
                    };
                    self.attached.insert(index, held);
                }
                Err(error) if starting && matches!(cause, Cause::Listed) => return Err(error.into()),
                Err(error) => self.refuse(index, &link, &cause, &error),
            }
        }
        Ok(())
    }

    /// Warns of an interface that could not be attached to, once for each text, and has it tried again.
    fn refuse(&mut self, index: u32, link: &Link, cause: &Cause, error: &DatapathError) {
        // It may be on its way out, or a former link of it on its way out of the kernel.
        if !matches!(error, DatapathError::NotEthernet { .. }) {
            self.monitor.look_again();
        }
        let warning = match cause {
            Cause::Listed => format!("{}: not attached: {error}", link.name),
            Cause::Behind(why) => format!("{}: not attached, though {why}: {error}", link.name),
        };
        if self.refused.insert(index, warning.clone()).as_ref() != Some(&warning) {
            warn!("{warning}");
        }
    }

    /// Says which interfaces of `--iface` have gone, and which have come.
    fn report_missing(&mut self) {
        let names = self.patterns.iter().filter(|pattern| pattern.is_name());
        let missing = names.filter(|pattern| !self.snapshot.links.iter().any(|link| pattern.matches(link)));
        let missing: BTreeSet<String> = missing.map(ToString::to_string).collect();
        for name in missing.difference(&self.missing) {
            warn!("{name} of --iface is not there: it is attached to when it appears");
        }
        self.missing = missing;
    }

    /// The interfaces that are listed, and those of pods, by ifindex.
    fn wanted(&self, model: &Model) -> BTreeMap<u32, (Link, Cause)> {
        let mut wanted = BTreeMap::new();
        if self.auto_attach {
            let ports = model.services.iter().flat_map(|service| &service.ports);
            let endpoints = ports.flat_map(|port| &port.endpoints).map(|endpoint| endpoint.address);
            let pods = model.pods.iter().copied();
            let found = interfaces_of_pods(&self.snapshot, endpoints, pods, &self.policy.cluster_cidrs);
            let link = |(index, why)| Some((index, (self.snapshot.link(index)?.clone(), Cause::Behind(why))));
            wanted.extend(found.into_iter().filter_map(link));
        }
        let is_listed = |link: &&Link| self.patterns.iter().any(|pattern| pattern.matches(link));
        for link in self.snapshot.links.iter().filter(is_listed) {
            wanted.insert(link.index, (link.clone(), Cause::Listed));
        }
        wanted
    }

    /// Adds the interfaces that would be detached from, but that connections still go through: replies of a masqueraded
    /// one are for this node, and reach its client only by our hook there.
    fn keep_for_connections(
        &self,
        wanted: &mut BTreeMap<u32, (Link, Cause)>,
        datapath: &Datapath,
        dir: &Path,
    ) -> anyhow::Result<()> {
        let attached: BTreeSet<String> = pins::attached(dir)?.into_iter().map(|(name, _)| name).collect();
        let candidates = self.snapshot.links.iter();
        let mut candidates =
            candidates.filter(|link| attached.contains(&link.name) && !wanted.contains_key(&link.index));
        if candidates.next().is_none() || !self.auto_attach {
            return Ok(());
        }
        let endpoints = datapath.maps.endpoints_of_connections()?;
        for (index, why) in interfaces_of_pods(&self.snapshot, endpoints, [], &[]) {
            let Some(link) = self.snapshot.link(index) else {
                continue;
            };
            if attached.contains(&link.name) && !wanted.contains_key(&index) {
                let why = match why {
                    Behind::Endpoint(ip) => Behind::Connection(ip),
                    other => other,
                };
                wanted.insert(index, (link.clone(), Cause::Behind(why)));
            }
        }
        Ok(())
    }
}

/// Says which hooks of an interface are ours now, and why.
fn report(link: &Link, attached: &Attached, why: &dyn fmt::Display) {
    let adopted = match attached.adopted {
        true => ", taken over from the last run",
        false => "",
    };
    info!(
        "{}: {} and {} ({why}){adopted}",
        link.name,
        attached.ingress,
        Hook::TcOut
    );
}

/// Why a start is refused for a real network within a service range.
fn refusal(overlap: &Overlap) -> String {
    let advice = if overlap.network == overlap.range {
        "remove the route if it is only there to lead Services' addresses here (svcproxy's own node needs none), or choose \
         another range with --service-cluster-ip-range"
    } else {
        "choose a range that is in no use with --service-cluster-ip-range"
    };
    format!(
        "{overlap} lies within --service-cluster-ip-range {}, where all that no Service has is dropped: {advice}",
        overlap.range
    )
}
