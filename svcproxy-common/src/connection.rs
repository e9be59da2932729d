//! What happens once per connection, once a second, and on SYN, FIN and RST: everything about a connection that the
//! fast path need not know.
//!
//! In comes a packet's key, out goes the table that now holds its entry. [`attend`] and [`open`] are called one after
//! the other and not one by the other: the kernel allows a chain of calls 512 bytes of stack in all.

use crate::{
    Packet, Reason, Table, Tables,
    abi::{Address, FlowEntry, FlowKey, FlowState, ServiceKey},
    choice,
    flow::{self, Live, TcpFlags, Translation},
};

/// What [`attend`] has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attended {
    /// The packet belongs to a connection that is kept here.
    Known(Table),
    /// It does not. It may open one.
    Unknown,
    /// It is the late reply of a connection that has been forgotten.
    Stray,
}

/// Finds the connection of a packet and brings it up to date.
#[inline(never)]
pub fn attend<A, P, T>(packet: &P, tables: &T, key: &FlowKey<A>, flags: TcpFlags, now: u32) -> Attended
where
    A: Address,
    P: Packet,
    T: Tables<A>,
{
    // Pending before flows: another processor may be moving the connection that way, and who looks the other way
    // round can miss it in both.
    let pending = tables.flow(Table::Pending, key);
    let (table, entry) = match (tables.flow(Table::Flows, key), pending) {
        (Some(entry), _) => (Table::Flows, entry),
        (None, Some(entry)) => (Table::Pending, entry),
        (None, None) => return Attended::Unknown,
    };
    let reply = entry.state().is_reply();
    let peer_key = flow::reverse_key(key, entry);
    let peer = tables.flow(table, &peer_key);
    if let Some(peer) = peer
        && flow::reverse_key(&peer_key, peer) != *key
    {
        // Its place is another connection's. A reply is then a former endpoint's.
        return if reply { Attended::Stray } else { Attended::Known(table) };
    }
    // The half that keeps the connection's state.
    let original = if reply { peer } else { Some(entry) };
    let state = original.map_or(FlowState::REPLY, |original| original.state());

    if expired(entry, peer, state, now) || (!reply && flags.opens() && state.reopens()) {
        // The tuple begins anew. A reply no longer belongs to anything.
        if reply {
            return Attended::Stray;
        }
        tables.forget_flow(table, &peer_key);
        tables.forget_flow(table, key);
        return Attended::Unknown;
    }

    let next = state.step(flags, reply);
    if let Some(original) = original
        && next != state
    {
        original.set_state(next);
    }
    let first_reply = entry.state() == FlowState::AWAIT_REPLY;
    if first_reply {
        entry.set_state(FlowState::REPLY);
    }
    if first_reply || entry.last_seen() != now {
        entry.set_last_seen(now);
        // Routes and neighbours change: once a second each direction asks again.
        entry.set_next_hop(packet.next_hop(entry.src(), entry.dst()));
    }
    match peer {
        // The other half was evicted. It can be derived from this one.
        None => {
            let state = match (reply, table) {
                (false, _) => FlowState::AWAIT_REPLY,
                (true, Table::Flows) => FlowState::derived(key.protocol),
                (true, Table::Pending) => FlowState::initial(key.protocol).step(flags, true),
            };
            // Stamped a second ago, so that its first packet comes here and asks for a next hop.
            let derived = flow::reverse_entry(key, entry, state, now.saturating_sub(1));
            tables.set_flow(table, &peer_key, &derived);
            Attended::Known(table)
        }
        Some(peer) if table == Table::Pending && !reply && next.confirmed() => {
            // The reply half first, as when a connection opens. A table that takes no more leaves both pending.
            let moved = tables.promote_flow(&peer_key, peer) && tables.promote_flow(key, entry);
            Attended::Known(if moved { Table::Flows } else { Table::Pending })
        }
        Some(_) => Attended::Known(table),
    }
}

/// Whether neither direction was used for longer than the state allows.
#[inline(always)]
fn expired<A: Address>(
    entry: &Live<FlowEntry<A>>,
    peer: Option<&Live<FlowEntry<A>>>,
    state: FlowState,
    now: u32,
) -> bool {
    let idle = |half: &Live<FlowEntry<A>>| flow::age(half.last_seen(), now) > state.timeout();
    idle(entry) && peer.is_none_or(idle)
}

/// Opens a connection to a Service: chooses its endpoint and stores both directions as pending, the reply's first, so
/// that no request is ever forwarded whose reply would not be recognised.
#[inline(never)]
pub fn open<A, P, T>(packet: &P, tables: &T, key: &FlowKey<A>, now: u32) -> Result<(), Reason>
where
    A: Address,
    P: Packet,
    T: Tables<A>,
{
    let service = tables
        .service(&ServiceKey {
            address: key.dst,
            port: key.dst_port.into(),
            protocol: key.protocol,
        })
        .ok_or(Reason::NotAService)?;
    let backend = choice::choose(tables, key, service, now)?;
    // One slot for both entries: that of the reply becomes that of the request.
    let mut reply_key = FlowKey {
        src: backend.address,
        dst: key.src,
        src_port: backend.port as u16,
        dst_port: key.src_port,
        protocol: key.protocol,
    };
    let mut turn = 0;
    while !vacant(tables, &reply_key, key, now) {
        if turn == PORTS_TRIED {
            return Err(Reason::NoSourcePort);
        }
        reply_key.dst_port = choice::port(key, turn);
        turn += 1;
    }
    let next_hop = packet.next_hop(key.src, reply_key.src);
    let (vip, client) = ((key.dst, key.dst_port), (key.src, key.src_port));
    let mut entry = FlowEntry::new(&reply_key, vip, client, FlowState::AWAIT_REPLY, now);
    let stored = tables.set_flow(Table::Pending, &reply_key, &entry) && {
        entry.reverse(&reply_key, next_hop, FlowState::initial(key.protocol));
        tables.set_flow(Table::Pending, key, &entry)
    };
    if stored { Ok(()) } else { Err(Reason::FlowTableFull) }
}

/// How many ports are tried for a client whose own is taken. With every second port taken, one connection in 256
/// finds none.
const PORTS_TRIED: u32 = 8;

/// Whether replies with this key can be those of `key`'s connection. They cannot while the same client has another
/// connection to the same endpoint from the same port, through another port or Service: the endpoint would take the
/// two for one. What is left of an earlier connection under this key is removed.
#[inline(always)]
fn vacant<A, T>(tables: &T, reply_key: &FlowKey<A>, key: &FlowKey<A>, now: u32) -> bool
where
    A: Address,
    T: Tables<A>,
{
    for table in [Table::Flows, Table::Pending] {
        let Some(reply) = tables.flow(table, reply_key) else {
            continue;
        };
        let original_key = flow::reverse_key(reply_key, reply);
        if original_key != *key {
            let original = tables.flow(table, &original_key);
            let state = original.map_or(FlowState::REPLY, |original| original.state());
            if !expired(reply, original, state, now) {
                return false;
            }
        }
        tables.forget_flow(table, reply_key);
    }
    true
}
