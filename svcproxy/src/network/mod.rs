//! The network of the node as the kernel has it, and what follows from it.
//!
//! [`Monitor`] reads it by netlink into a [`Snapshot`] and says when it has changed. From a snapshot follow, without
//! any I/O, the node's own addresses ([`node_addresses`]), the real networks that a service range would swallow
//! ([`overlaps`]), the interfaces by which pods' packets come ([`interfaces_of_pods`]) and the endpoints that are out of
//! reach ([`Reach`]).

#![forbid(unsafe_code)]

mod addresses;
mod attachment;
mod error;
mod link;
mod monitor;
mod neighbours;
mod overlap;
mod pattern;
mod reach;
mod routing;
mod snapshot;

pub use self::{
    addresses::{node_addresses, taken_cluster_ips, unreachable_node_ports},
    attachment::{Behind, interfaces_of_pods},
    error::NetworkError,
    link::Link,
    monitor::Monitor,
    neighbours::{Neighbour, Neighbours},
    overlap::{Overlap, overlaps},
    pattern::InterfacePattern,
    reach::{Evidence, OutOfReach, Reach},
    snapshot::{Address, Route, Snapshot},
};
