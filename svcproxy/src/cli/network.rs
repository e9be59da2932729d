//! The node's network as a run follows it: what it adds to the model, and which interfaces it makes us attach to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    sync::Arc,
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
        Behind, Link, Monitor, Overlap, Snapshot, interfaces_of_pods, node_addresses, overlaps, taken_cluster_ips,
        unreachable_node_ports,
    },
};

/// The network of this node, and what of it the datapath has taken up.
pub(super) struct NodeNetwork {
    monitor: Monitor,
    snapshot: Snapshot,
    policy: NodePolicy,
    /// The interfaces of `--iface`.
    listed: Vec<Link>,
    /// Whether pods' interfaces are attached to by themselves.
    auto_attach: bool,
    /// Those that are, by ifindex.
    attached: BTreeMap<u32, Link>,
    /// Real networks within a service range, all of which have appeared since the start.
    overlaps: Vec<Overlap>,
    /// Interfaces of pods that could not be attached to, by ifindex, and what was said of them.
    refused: BTreeMap<u32, String>,
    /// Warnings about Services that still hold; each is given once.
    warned: BTreeSet<String>,
}

impl NodeNetwork {
    /// Reads the network for the first time.
    ///
    /// # Errors
    ///
    /// When an interface of `--iface` is missing, and when the service range would swallow a real network.
    pub(super) async fn open(args: &RunArgs) -> anyhow::Result<Self> {
        let policy = args.input.node.policy()?;
        let monitor = Monitor::open()?;
        let snapshot = monitor.snapshot().await?;
        let listed = args.ifaces.iter().map(|name| Link::named(&snapshot.links, name));
        let listed = listed.map(|link| link.cloned()).collect::<Result<_, _>>()?;
        if let Some(overlap) = overlaps(&snapshot, &policy.service_ranges, &policy.cluster_cidrs).first() {
            bail!("{}", refusal(overlap));
        }
        Ok(Self {
            monitor,
            snapshot,
            policy,
            listed,
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

    /// Attaches to the interfaces of `--iface`. Returns the names of those that run XDP.
    ///
    /// # Errors
    ///
    /// At the first that cannot be attached to.
    pub(super) fn attach_listed(&self, datapath: &mut Datapath, dir: &Path, mode: Mode) -> anyhow::Result<Vec<String>> {
        let mut on_xdp = Vec::new();
        for link in &self.listed {
            let attached = datapath.attach(dir, link, mode)?;
            report(link, &attached, &attached.why);
            if attached.ingress == Hook::Xdp {
                on_xdp.push(link.name.clone());
            }
        }
        Ok(on_xdp)
    }

    /// Attaches to the interfaces of pods and detaches from those that are none any more, never from listed ones. What
    /// cannot be attached to is a warning, and tried again the next time.
    ///
    /// # Errors
    ///
    /// When the pinned links cannot be changed.
    pub(super) fn attach(&mut self, datapath: &mut Datapath, dir: &Path, model: &Model) -> anyhow::Result<()> {
        let wanted = self.wanted(model);
        self.attached
            .retain(|index, link| wanted.get(index).is_some_and(|(wanted, _)| wanted.name == link.name));
        self.refused.retain(|index, _| wanted.contains_key(index));
        // Links of an earlier run are kept for what is attached next: the programs are swapped inside them.
        let keep: Vec<Link> = self
            .listed
            .iter()
            .chain(wanted.values().map(|(link, _)| link))
            .cloned()
            .collect();
        for link in pins::detach_others(dir, &keep).context("cannot detach")? {
            info!("detached {link}: its interface is neither listed nor one of pods");
        }
        for (index, (link, why)) in wanted {
            if self.attached.contains_key(&index) {
                continue;
            }
            match datapath.attach(dir, &link, Mode::Tc) {
                Ok(attached) => {
                    report(&link, &attached, &why);
                    self.refused.remove(&index);
                    self.attached.insert(index, link);
                }
                Err(error) => {
                    // It may be on its way out, or a former link of it on its way out of the kernel.
                    if !matches!(error, DatapathError::NotEthernet { .. }) {
                        self.monitor.look_again();
                    }
                    let warning = format!("{}: not attached, though {why}: {error}", link.name);
                    if self.refused.insert(index, warning.clone()).as_ref() != Some(&warning) {
                        warn!("{warning}");
                    }
                }
            }
        }
        Ok(())
    }

    /// The interfaces of pods that are not listed, each with the reason.
    fn wanted(&self, model: &Model) -> BTreeMap<u32, (Link, Behind)> {
        if !self.auto_attach {
            return BTreeMap::new();
        }
        let ports = model.services.iter().flat_map(|service| &service.ports);
        let endpoints = ports.flat_map(|port| &port.endpoints).map(|endpoint| endpoint.address);
        let pods = model.pods.iter().copied();
        let mut found = interfaces_of_pods(&self.snapshot, endpoints, pods, &self.policy.cluster_cidrs);
        found.retain(|index, _| !self.listed.iter().any(|link| link.index == *index));
        let link = |(index, why)| Some((index, (self.snapshot.link(index)?.clone(), why)));
        found.into_iter().filter_map(link).collect()
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
