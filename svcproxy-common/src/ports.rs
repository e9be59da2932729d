//! The source port of a connection towards its endpoint: the client's own, unless another connection of that client
//! has the same port to the same endpoint already.
//!
//! That happens without any fault of the client: Linux gives one port to connections to several destinations, and two
//! Services, or two ports of one, may lead to the same endpoint. To the endpoint the two would be one connection.

use crate::{
    Reason, Table, Tables,
    abi::{Address, FlowKey},
    choice,
    flow::Translation,
};

/// How many other ports are tried. A client would need tens of thousands of connections to one endpoint for all of
/// them to be taken.
const ATTEMPTS: u32 = 8;

/// Gives `reply` (the key of the connection's reply) a destination port that no other connection has.
#[inline(always)]
pub fn claim<A, T>(tables: &T, key: &FlowKey<A>, reply: &mut FlowKey<A>) -> Result<(), Reason>
where
    A: Address,
    T: Tables<A>,
{
    let mut attempt = 0;
    while is_taken(tables, key, reply) {
        if attempt == ATTEMPTS {
            return Err(Reason::NoSourcePort);
        }
        reply.dst_port = candidate(key, attempt);
        attempt += 1;
    }
    Ok(())
}

/// Whether a reply of this key belongs to another connection than `key`'s.
#[inline(always)]
fn is_taken<A: Address, T: Tables<A>>(tables: &T, key: &FlowKey<A>, reply: &FlowKey<A>) -> bool {
    let entry = match tables.flow(Table::Flows, reply) {
        Some(entry) => Some(entry),
        None => tables.flow(Table::Pending, reply),
    };
    entry.is_some_and(|entry| {
        entry.src() != key.dst
            || entry.src_port() != key.dst_port
            || entry.dst() != key.src
            || entry.dst_port() != key.src_port
    })
}

/// One of the unprivileged ports, another for every attempt and every connection.
#[inline(always)]
fn candidate<A: Address>(key: &FlowKey<A>, attempt: u32) -> u16 {
    const FIRST: u64 = 1024;
    const COUNT: u64 = 65_536 - FIRST;
    let hash = choice::hash(key).rotate_left(attempt * 7) & 0xffff_ffff;
    (FIRST + ((hash * COUNT) >> 32)) as u16
}
