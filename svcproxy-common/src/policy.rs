//! Which Service a new connection is for, and what its rules say of this client. The rules themselves have been worked
//! out by the control plane; here they are looked up.

use crate::{
    Packet, Reason, Tables,
    abi::{Address, EndpointSet, FlowKey, Network, Protocol, ServiceEntry, ServiceKey, Way},
};

/// The Service at the address and port that `key`'s packet is for. Errors say what becomes of other packets: only
/// those for the service range are ours to refuse.
#[inline(always)]
pub fn find<'a, A, T>(tables: &'a T, key: &FlowKey<A>) -> Result<&'a ServiceEntry, Reason>
where
    A: Address,
    T: Tables<A>,
{
    let mut service_key = ServiceKey {
        address: key.dst,
        port: key.dst_port.into(),
        protocol: key.protocol,
    };
    if let Some(service) = tables.service(&service_key) {
        return Ok(service);
    }
    if tables.network(&key.dst) != Some(Network::SERVICES) {
        return Err(Reason::NotAService);
    }
    service_key.port = 0;
    service_key.protocol = Protocol::ANY;
    Err(match tables.service(&service_key) {
        Some(_) => Reason::OtherPort,
        None => Reason::Unallocated,
    })
}

/// What a Service's rules say of a client.
pub struct Client<'a> {
    /// The endpoints it chooses from.
    pub set: &'a EndpointSet,
    /// Whether the endpoint sees this node's address instead of its own.
    pub masquerade: bool,
}

/// Applies `service`'s rules to the client of `key`.
#[inline(always)]
pub fn admit<'a, A, T>(tables: &T, service: &'a ServiceEntry, key: &FlowKey<A>) -> Result<Client<'a>, Reason>
where
    A: Address,
    T: Tables<A>,
{
    if service.way == Way::LOAD_BALANCER && service.filtered && !tables.in_source_ranges(service.service, &key.src) {
        return Err(Reason::SourceRange);
    }
    Ok(match tables.network(&key.src) {
        Some(Network::PODS) => Client {
            set: &service.inside,
            masquerade: service.masquerade_pods,
        },
        Some(Network::NODE) => Client {
            set: &service.inside,
            masquerade: service.masquerade_node,
        },
        _ => Client {
            set: &service.outside,
            masquerade: service.masquerade_outside,
        },
    })
}

/// The address to masquerade behind: that of the interface by which the endpoint is reached.
#[inline(always)]
pub fn masquerade_address<A, P, T>(packet: &P, tables: &T, endpoint: A) -> Result<A, Reason>
where
    A: Address,
    P: Packet,
    T: Tables<A>,
{
    if let Some(address) = packet.source_address(endpoint) {
        return Ok(address);
    }
    match tables.config() {
        Some(config) if config.node_address.bits() != 0 => Ok(config.node_address),
        _ => Err(Reason::NoSourceAddress),
    }
}
