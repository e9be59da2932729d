//! The source port of a connection towards its endpoint: the client's own, unless another connection from the same
//! address has the same port to the same endpoint already.
//!
//! Masqueraded clients share an address, so that two of them may well have the same port. But it happens without
//! masquerading too: Linux gives one port to connections to several destinations, and two Services, or two ports of
//! one, may lead to the same endpoint. To the endpoint the two would be one connection.

use crate::{
    Reason, Table, Tables,
    abi::{Address, FlowKey},
    choice,
    flow::Translation,
};

/// How many other ports are tried. With half of the range taken towards one endpoint, one connection in 65 000 finds
/// none.
const ATTEMPTS: u32 = 16;

/// Gives `reply` (the key of the connection's reply) a destination port that no other connection has.
#[inline(always)]
pub fn claim<A, T>(tables: &T, key: &FlowKey<A>, reply: &mut FlowKey<A>) -> Result<(), Reason>
where
    A: Address,
    T: Tables<A>,
{
    let (first, count) = match tables.config() {
        Some(config) if reply.dst != key.src => (config.masquerade_port_first, config.masquerade_port_count),
        _ => (1024, 65_536 - 1024), // its own address: any unprivileged port
    };
    let mut attempt = 0;
    while is_taken(tables, key, reply) {
        if attempt == ATTEMPTS {
            return Err(Reason::NoSourcePort);
        }
        reply.dst_port = candidate(key, attempt, first, count);
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

/// One of `count` ports from `first` on, another for every attempt and every connection.
#[inline(always)]
fn candidate<A: Address>(key: &FlowKey<A>, attempt: u32, first: u32, count: u32) -> u16 {
    let hash = choice::hash(key).rotate_left(attempt * 3) & 0xffff_ffff;
    (u64::from(first) + ((hash * u64::from(count)) >> 32)) as u16
}
