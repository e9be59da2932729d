//! Which Service a new connection is for, and what its rules say of this client. The rules themselves have been worked
//! out by the control plane; here they are looked up.

use crate::{
    Reason, Tables,
    abi::{Address, EndpointSet, FlowKey, Network, Protocol, ServiceEntry, ServiceKey, Way},
};

/// The Service at the address and port that `key`'s packet is for.
#[inline(always)]
pub fn find<'a, A, T>(tables: &'a T, key: &FlowKey<A>) -> Result<&'a ServiceEntry, Reason>
where
    A: Address,
    T: Tables<A>,
{
    let service_key = ServiceKey {
        address: key.dst,
        port: key.dst_port.into(),
        protocol: key.protocol,
    };
    tables.service(&service_key).ok_or(Reason::NotAService)
}

/// Whether an address at which there is no Service may be one that is refused, see [`refusal`].
#[inline(always)]
pub fn may_refuse<A: Address>(tables: &impl Tables<A>, address: &A) -> bool {
    tables
        .config()
        .is_some_and(|config| address.is_in(&config.service_network, &config.service_mask))
}

/// What becomes of a packet for an address at which there is no such Service: only the service range is ours to
/// refuse, the rest is left alone for the `other` reason.
#[inline(never)]
pub fn refusal<A: Address, T: Tables<A>>(tables: &T, key: &FlowKey<A>, other: Reason) -> Reason {
    if tables.network(&key.dst) != Some(Network::SERVICES) {
        return other;
    }
    match tables.service(&ServiceKey {
        address: key.dst,
        port: 0,
        protocol: Protocol::ANY,
    }) {
        Some(_) => Reason::OtherPort,
        None => Reason::Unallocated,
    }
}

/// What becomes of a packet of which no more than the addresses can be read, where `other` is the reason to leave it alone.
/// To the service range it is dropped: passed on, a router that sends the range to this node makes a loop of it.
#[inline(never)]
pub fn stray<A: Address, T: Tables<A>>(tables: &T, dst: &A, other: Reason) -> Reason {
    match tables.network(dst) {
        Some(Network::SERVICES) => Reason::Stray,
        _ => other,
    }
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
    filter(tables, service, &key.src)?;
    let masquerade_all_alike =
        service.masquerade_pods == service.masquerade_outside && service.masquerade_node == service.masquerade_outside;
    let network = match service.inside.number == service.outside.number && masquerade_all_alike {
        true => None, // whatever it is, it makes no difference
        false => tables.network(&key.src),
    };
    Ok(match network {
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

/// Applies `service`'s rules to this node itself, known by `address`: the endpoints it chooses from.
#[inline(always)]
pub fn admit_node<'a, A, T>(tables: &T, service: &'a ServiceEntry, address: &A) -> Result<&'a EndpointSet, Reason>
where
    A: Address,
    T: Tables<A>,
{
    filter(tables, service, address)?;
    Ok(&service.inside)
}

/// Refuses a client that is not in the source ranges, where `service` has some.
#[inline(always)]
fn filter<A: Address>(tables: &impl Tables<A>, service: &ServiceEntry, client: &A) -> Result<(), Reason> {
    match service.way {
        Way::LOAD_BALANCER if service.filtered && !tables.in_source_ranges(service.service, client) => {
            Err(Reason::SourceRange)
        }
        _ => Ok(()),
    }
}

/// The address to masquerade behind: that of the interface by which the endpoint is reached (`routed`, all zeros when
/// there is none), else the node's.
#[inline(always)]
pub fn masquerade_address<A: Address>(tables: &impl Tables<A>, routed: A) -> Result<A, Reason> {
    if routed != A::UNSPECIFIED {
        return Ok(routed);
    }
    match tables.config() {
        Some(config) if config.node_address != A::UNSPECIFIED => Ok(config.node_address),
        _ => Err(Reason::NoSourceAddress),
    }
}
