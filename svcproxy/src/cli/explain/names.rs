//! Names for what the maps hold only as addresses and numbers, from the records of the state file.

use std::net::{IpAddr, SocketAddr};

use svcproxy_common::abi::Way;

use crate::{
    model::Protocol,
    state::{PortRecord, ServiceRecord, State},
};

/// A Service by name, and its port where one is meant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'a> {
    /// `namespace/name`
    pub(super) name: &'a str,
    pub(super) record: &'a ServiceRecord,
    pub(super) port: Option<&'a PortRecord>,
}

impl Named<'_> {
    /// `namespace/name:port`, the port by its name if it has one; `namespace/name` for none of its ports.
    pub(super) fn qualified(&self) -> String {
        match self.port {
            None => self.name.to_owned(),
            Some(port) if port.name.is_empty() => format!("{}:{}", self.name, port.port),
            Some(port) => format!("{}:{}", self.name, port.name),
        }
    }
}

/// The Service that an entry of this way at this address and port stands for.
pub(super) fn find<'a>(state: &'a State, dst: SocketAddr, protocol: Protocol, way: Way) -> Option<Named<'a>> {
    let protocol = protocol.to_string();
    let named = |(name, record): (&'a String, &'a ServiceRecord)| {
        let port = record.ports.iter().find(|port| {
            let number = match way {
                Way::NODE_PORT => port.node_port,
                _ => Some(port.port),
            };
            number == Some(dst.port()) && port.protocol == protocol
        });
        let addresses = match way {
            Way::CLUSTER_IP | Way::OTHER_PORT => &record.cluster_ips,
            Way::EXTERNAL_IP => &record.external_ips,
            Way::LOAD_BALANCER => &record.load_balancer_ips,
            Way::NODE_PORT => return port.map(|port| (name, record, Some(port))),
        };
        let wanted = way == Way::OTHER_PORT || port.is_some();
        (wanted && addresses.contains(&dst.ip())).then_some((name, record, port))
    };
    let (name, record, port) = state.services.iter().find_map(named)?;
    Some(Named { name, record, port })
}

/// The Services that have an address of their own there, for who has mistaken the port.
pub(super) fn at(state: &State, address: IpAddr) -> impl Iterator<Item = Named<'_>> {
    let has = move |record: &ServiceRecord| {
        let lists = [&record.cluster_ips, &record.external_ips, &record.load_balancer_ips];
        lists.into_iter().any(|list| list.contains(&address))
    };
    let records = state.services.iter().filter(move |(_, record)| has(record));
    records.map(|(name, record)| Named {
        name,
        record,
        port: None,
    })
}

/// The Service with this nodePort, for who has asked at an address where it does not answer.
pub(super) fn with_node_port(state: &State, port: u16, protocol: Protocol) -> Option<Named<'_>> {
    let protocol = protocol.to_string();
    let is_meant = |record: &&PortRecord| record.node_port == Some(port) && record.protocol == protocol;
    state.services.iter().find_map(|(name, record)| {
        let port = record.ports.iter().find(is_meant)?;
        Some(Named {
            name,
            record,
            port: Some(port),
        })
    })
}
