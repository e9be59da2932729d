//! The decision code on the host: given a node, when a packet comes, then what.

mod affinity;
mod checksums;
mod clashes;
mod connections;
mod distribution;
mod expiry;
mod forwarding;
mod fragments;
mod icmp;
mod masquerade;
#[path = "../model/mod.rs"]
mod model;
mod ports;
mod processors;
mod protocols;
mod reopening;
mod sockets;
mod states;
mod translation;
mod untouched;
mod verdicts;

use std::net::SocketAddr;

use model::{Cluster, Ip, Node, service};
use svcproxy_common::{
    Fate, Reason,
    abi::Protocol::{self, SCTP, TCP, UDP},
};

/// A node with one Service: TCP and SCTP 80 → 8080, UDP 53 → 5353, at `ip.vip(1)`, on so many pods.
fn node(ip: Ip, pods: u16) -> Node {
    let node = Node::new();
    let mut cluster = Cluster::default();
    cluster.put(
        &node.tables,
        service(1, TCP, ip.vip(1, 80), &endpoints(ip, 8080, 1..=pods)),
    );
    cluster.put(
        &node.tables,
        service(1, UDP, ip.vip(1, 53), &endpoints(ip, 5353, 1..=pods)),
    );
    cluster.put(
        &node.tables,
        service(1, SCTP, ip.vip(1, 80), &endpoints(ip, 8080, 1..=pods)),
    );
    node
}

fn endpoints(ip: Ip, port: u16, pods: impl IntoIterator<Item = u16>) -> Vec<SocketAddr> {
    pods.into_iter().map(|pod| ip.pod(pod, port)).collect()
}

/// The address of the node's Service for a protocol.
fn vip(ip: Ip, protocol: Protocol) -> SocketAddr {
    ip.vip(1, if protocol == UDP { 53 } else { 80 })
}

/// Whether a packet not translated for this reason goes on, as it was.
fn passes(reason: Reason) -> bool {
    reason.fate() == Fate::Pass
}
