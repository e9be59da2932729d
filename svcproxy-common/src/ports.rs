//! The source port of a connection towards its endpoint: the client's own, unless another connection from the same
//! address has the same port to the same endpoint already.
//!
//! Masqueraded clients share an address, so that two of them may well have the same port. But it happens without
//! masquerading too: Linux gives one port to connections to several destinations, and two Services, or two ports of
//! one, may lead to the same endpoint. To the endpoint the two would be one connection.

use crate::{
    Packet, Reason, SocketTuple, Table, Tables,
    abi::{Address, FlowKey, FlowState},
    choice, connection, flow, verifier,
};

/// How many ports are tried for a client whose own is taken. With every second port taken, one connection in 256 finds
/// none.
const TRIED: u32 = 8;

/// Gives `reply` (the key of the connection's reply) a destination port that no other connection has.
#[inline(always)]
pub fn claim<A, P, T>(
    packet: &P,
    tables: &T,
    key: &FlowKey<A>,
    reply: &mut FlowKey<A>,
    tuple: &mut SocketTuple<A>,
    now: u32,
) -> Result<(), Reason>
where
    A: Address,
    P: Packet,
    T: Tables<A>,
{
    let (first, count) = match tables.config() {
        Some(config) if reply.dst != key.src => (config.masquerade_port_first, config.masquerade_port_count),
        _ => (1024, 65_536 - 1024), // its own address: any unprivileged port
    };
    let mut turn = 0;
    while !tables.is_vacant(reply, key, now) || is_in_use(packet, key, reply, tuple) {
        if turn == TRIED {
            return Err(Reason::NoSourcePort);
        }
        reply.dst_port = choice::port(key, turn, first, count);
        turn += 1;
        verifier::close_loop();
    }
    Ok(())
}

/// Whether a process of this node has a connection that such replies belong to: it shares the address with those who are
/// masqueraded.
#[inline(always)]
pub(crate) fn is_in_use<A: Address>(
    packet: &impl Packet,
    key: &FlowKey<A>,
    reply: &FlowKey<A>,
    tuple: &mut SocketTuple<A>,
) -> bool {
    if reply.dst == key.src {
        return false;
    }
    tuple.src = reply.src;
    tuple.dst = reply.dst;
    tuple.src_port = reply.src_port.to_be();
    tuple.dst_port = reply.dst_port.to_be();
    packet.has_socket(tuple, reply.protocol)
}

/// Whether replies with this key can be those of `key`'s connection. They cannot while another connection, through
/// another port, Service or client, has them. What is left of an earlier connection under this key is removed.
#[inline(always)]
pub fn is_vacant<A, T>(tables: &T, reply_key: &FlowKey<A>, key: &FlowKey<A>, now: u32) -> bool
where
    A: Address,
    T: Tables<A>,
{
    (!tables.may_hold(reply_key) || is_free(tables, Table::Flows, reply_key, key, now))
        && is_free(tables, Table::Pending, reply_key, key, now)
}

/// The same of one table.
#[inline(always)]
fn is_free<A, T>(tables: &T, table: Table, reply_key: &FlowKey<A>, key: &FlowKey<A>, now: u32) -> bool
where
    A: Address,
    T: Tables<A>,
{
    let Some(reply) = tables.flow(table, reply_key) else {
        return true;
    };
    let original_key = flow::reverse_key(reply_key, reply);
    if original_key != *key {
        let original = tables.flow(table, &original_key);
        let state = original.map_or(FlowState::REPLY, |original| original.state());
        if !connection::expired(reply, original, state, now) {
            return false;
        }
    }
    tables.forget_flow(table, reply_key);
    true
}
