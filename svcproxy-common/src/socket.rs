//! A socket of this node connects to a Service, or sends a datagram there: it is led to an endpoint before there is a
//! packet, so that none of its packets needs a translation. In comes the address the process asked for, out goes the
//! endpoint's; and back, where the process is told who its peer is.
//!
//! Nothing here masquerades: the kernel chooses the source address afterwards, by its route to the endpoint.

use crate::{
    Reason, Tables,
    abi::{Address, BackendKey, Direction, FlowKey, Protocol, SocketKey, SocketPeer},
    choice::{self, Choice},
    policy,
};

/// A socket of this node, and where it wants to go.
#[derive(Clone, Copy, Debug)]
pub struct Socket<A> {
    /// The kernel's number of it, never given to another (`SO_COOKIE`).
    pub cookie: u64,
    /// Its protocol.
    pub protocol: Protocol,
    /// The address it is to reach.
    pub address: A,
    /// And the port.
    pub port: u16,
}

/// Where a socket must go instead. Errors are the reasons to leave it alone or to refuse it.
#[inline(always)]
pub fn connect<A, T>(tables: &T, socket: &Socket<A>, now: u32) -> Result<(A, u16), Reason>
where
    A: Address,
    T: Tables<A>,
{
    let peer = endpoint(tables, socket, now)?;
    Ok((peer.address, peer.port as u16))
}

/// The address that a socket knows an endpoint by; `None` when it reached it by no Service.
#[inline(always)]
pub fn peer<A, T>(tables: &T, cookie: u64, address: A, port: u16) -> Option<(A, u16)>
where
    A: Address,
    T: Tables<A>,
{
    let service = tables.socket(&key(cookie, Direction::REPLY, address, port.into()))?;
    Some((service.address, service.port as u16))
}

/// The endpoint for a socket. Both directions are in the tables then.
#[inline(always)]
fn endpoint<A, T>(tables: &T, socket: &Socket<A>, now: u32) -> Result<SocketPeer<A>, Reason>
where
    A: Address,
    T: Tables<A>,
{
    let flow = FlowKey {
        src: tables.config().ok_or(Reason::NotAService)?.node_address,
        dst: socket.address,
        // It has no port yet: sockets are spread by their numbers.
        src_port: socket.cookie as u16,
        dst_port: socket.port,
        protocol: socket.protocol,
    };
    let service = policy::find(tables, &flow).map_err(|reason| policy::refusal(tables, &flow, reason))?;
    let set = policy::admit_node(tables, service, &flow.src)?;

    let request = key(socket.cookie, Direction::REQUEST, socket.address, socket.port.into());
    if socket.protocol == Protocol::UDP
        && let Some(peer) = tables.socket(&request)
        && in_set(tables, set.number, &peer)
    {
        answer_as(tables, socket, &peer);
        return Ok(peer);
    }
    let Choice { endpoint, backend } = choice::choose(tables, &flow, service, set, now)?;
    let peer = SocketPeer {
        address: backend.address,
        port: backend.port,
        endpoint,
    };
    answer_as(tables, socket, &peer);
    tables.set_socket(&request, &peer);
    Ok(peer)
}

/// Whether an endpoint is still one of a set, at the same address.
#[inline(always)]
fn in_set<A: Address>(tables: &impl Tables<A>, endpoint_set: u32, peer: &SocketPeer<A>) -> bool {
    let key = BackendKey {
        endpoint_set,
        endpoint: peer.endpoint,
    };
    tables
        .backend(&key)
        .is_some_and(|backend| backend.address == peer.address && backend.port == peer.port)
}

/// Has the answers of an endpoint come from the Service's address. They may be known to come from another: two
/// Services of one endpoint, or no longer at all, when the table has had to make room.
#[inline(always)]
fn answer_as<A: Address>(tables: &impl Tables<A>, socket: &Socket<A>, peer: &SocketPeer<A>) {
    let reply = key(socket.cookie, Direction::REPLY, peer.address, peer.port);
    let service = SocketPeer {
        address: socket.address,
        port: socket.port.into(),
        endpoint: peer.endpoint,
    };
    if tables.socket(&reply) != Some(service) {
        tables.set_socket(&reply, &service);
    }
}

#[inline(always)]
fn key<A>(cookie: u64, direction: Direction, address: A, port: u32) -> SocketKey<A> {
    SocketKey {
        address,
        port,
        direction,
        cookie: [cookie as u32, (cookie >> 32) as u32],
    }
}
