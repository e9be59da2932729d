//! What happens once per connection, once a second, and on SYN, FIN and RST: everything about a connection that the
//! fast path need not know.
//!
//! In comes a packet's key, out goes the table that now holds its entry. [`attend`], [`choose`] and [`open`] are called
//! one after the other and not one by the other: the kernel allows a chain of calls 512 bytes of stack in all.

use crate::{
    Opening, Packet, Reason, Route, SocketTuple, Table, Tables,
    abi::{Address, Delivery, FlowEntry, FlowKey, FlowState, RpFilter, V4Addr},
    choice,
    flow::{self, Live, TcpFlags, Translation},
    policy, ports,
};

/// What [`attend`] has found.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attended {
    /// The packet belongs to a connection that is kept in [`Table::Flows`].
    Flow,
    /// The packet belongs to a connection that is kept in [`Table::Pending`].
    Pending,
    /// It belongs to none. It may open one.
    Unknown,
    /// It belongs to one that has ended, and is still in [`Table::Flows`]. It may open one.
    Ended,
    /// It is the late reply of a connection that has been forgotten.
    Stray,
}

impl From<Table> for Attended {
    #[inline(always)]
    fn from(table: Table) -> Self {
        match table {
            Table::Flows => Self::Flow,
            Table::Pending => Self::Pending,
        }
    }
}

/// Finds the connection of a packet and brings it up to date. `in_flows` says whether it has just been seen in
/// [`Table::Flows`]. `routed` is [`Packet::ROUTED`]: no constant here, so that in the kernel one function does for both ways
/// through tc.
#[inline(always)]
pub fn attend<A, P, T>(
    packet: &P,
    tables: &T,
    key: &FlowKey<A>,
    flags: TcpFlags,
    in_flows: bool,
    routed: bool,
) -> Attended
where
    A: Address,
    P: Packet,
    T: Tables<A>,
{
    let now = packet.now();
    let pending = match in_flows {
        true => None,
        false => tables.flow(Table::Pending, key),
    };
    let (table, entry) = match pending {
        Some(entry) => (Table::Pending, entry),
        // No move comes in between, as in the next case: a first packet is sent again after a second, not within one.
        None if !in_flows && flags.opens() => return Attended::Unknown,
        // Another processor may have moved the connection after the look at one table and before that at the other.
        None => match tables.flow(Table::Flows, key) {
            Some(entry) => (Table::Flows, entry),
            None => return Attended::Unknown,
        },
    };
    let reply = entry.state().is_reply();
    let peer_key = flow::reverse_key(key, entry);
    let peer = tables.flow(table, &peer_key);
    if let Some(peer) = peer
        && flow::reverse_key(&peer_key, peer) != *key
    {
        // Its place is another connection's. A reply is then a former endpoint's. A request has lost its source port,
        // and begins anew with another.
        if reply {
            return Attended::Stray;
        }
        tables.forget_flow(table, key);
        return Attended::Unknown;
    }
    // The half that keeps the connection's state.
    let original = if reply { peer } else { Some(entry) };
    let state = original.map_or(FlowState::REPLY, |original| original.state());

    if expired(entry, peer, state, now) || (!reply && flags.opens() && state.reopens()) {
        // The tuple begins anew. A reply no longer belongs to anything.
        if reply {
            return Attended::Stray;
        }
        if table == Table::Flows {
            return Attended::Ended;
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
        // As long as a connection is opening, its packets come here; when it is pending they do in any case.
        let opening = table == Table::Flows && next.opening();
        entry.set_last_seen(if opening { earlier(now) } else { now });
        // Routes and neighbours change: once a second each direction asks again.
        if !routed && entry.delivery() != Delivery::RESET {
            entry.set_next_hop(route(packet, tables, entry.src(), entry.dst()).next_hop);
        }
    }
    match peer {
        // The other half was evicted. It can be derived from this one.
        None => {
            let state = match (reply, table) {
                (false, _) => FlowState::AWAIT_REPLY,
                (true, Table::Flows) => FlowState::derived(key.protocol),
                (true, Table::Pending) => FlowState::initial(key.protocol).step(flags, true),
            };
            if let Some(opening) = tables.opening() {
                opening.entry = flow::reverse_entry(key, entry, state, earlier(now));
                tables.set_flow(table, &peer_key, &opening.entry);
            }
            table.into()
        }
        Some(peer) if table == Table::Pending && !reply && next.confirmed() => {
            // The reply half first, as when a connection opens. A table that takes no more leaves both pending.
            let moved = tables.promote_flow(&peer_key, peer) && tables.promote_flow(key, entry);
            if moved { Attended::Flow } else { Attended::Pending }
        }
        Some(_) => table.into(),
    }
}

/// The stamp of an entry whose next packet is to come to [`attend`]: a second ago.
#[inline(always)]
const fn earlier(now: u32) -> u32 {
    now.saturating_sub(1)
}

/// The way of a packet from `src`, or this node's own address if that is unspecified, to `dst`.
#[inline(always)]
fn route<A, P, T>(packet: &P, tables: &T, src: A, dst: A) -> Route<A>
where
    A: Address,
    P: Packet,
    T: Tables<A>,
{
    let by_destination = tables.config().is_some_and(|config| config.routes_by_destination);
    packet.route(src, dst, by_destination)
}

/// Whether neither direction was used for longer than the state allows.
#[inline(always)]
pub(crate) fn expired<A: Address>(
    entry: &Live<FlowEntry<A>>,
    peer: Option<&Live<FlowEntry<A>>>,
    state: FlowState,
    now: u32,
) -> bool {
    let idle = |half: &Live<FlowEntry<A>>| flow::age(half.last_seen(), now) > state.timeout();
    idle(entry) && peer.is_none_or(idle)
}

/// Decides whether a packet opens a connection to a Service, and to which endpoint: the first half of [`open`].
#[inline(always)]
pub fn choose<A, T>(tables: &T, key: &FlowKey<A>, now: u32) -> Result<(), Reason>
where
    A: Address,
    T: Tables<A>,
{
    let service = policy::find(tables, key)?;
    if key.src.is_martian() {
        return Err(Reason::Martian);
    }
    let client = policy::admit(tables, service, key)?;
    let backend = choice::choose(tables, key, service, client.set, now)?.backend;
    let opening = tables.opening().ok_or(Reason::FlowTableFull)?;
    opening.reply_key.src = backend.address;
    opening.reply_key.src_port = backend.port as u16;
    // An endpoint that reaches itself would see its own address as the client's, and answer past us.
    opening.masquerade = client.masquerade || backend.address == key.src;
    Ok(())
}

/// Opens a connection to the endpoint that [`choose`] has chosen: stores both directions as pending, the reply's first,
/// so that no request is ever forwarded whose reply would not be recognised. `ended` says that [`attend`] has found an
/// [`Attended::Ended`] one: if that was to the same endpoint, this one takes over its entries, and where they are.
#[inline(always)]
pub fn open<A, P, T>(packet: &P, tables: &T, key: &FlowKey<A>, now: u32, ended: bool) -> Result<(), Reason>
where
    A: Address,
    P: Packet,
    T: Tables<A>,
{
    let Opening {
        masquerade,
        reply_key,
        entry,
        tuple,
    } = tables.opening().ok_or(Reason::FlowTableFull)?;
    if A::AF == V4Addr::AF && is_from_elsewhere(packet, tables, key.src) {
        return Err(Reason::ReversePath);
    }
    reply_key.dst = key.src;
    reply_key.dst_port = key.src_port;
    reply_key.protocol = key.protocol;
    let src = if *masquerade { A::UNSPECIFIED } else { key.src };
    let route = route(packet, tables, src, reply_key.src);
    // What this node delivers to itself keeps its client's address, as nothing behind the kernel's INPUT hook is
    // masqueraded.
    if *masquerade && !route.here {
        reply_key.dst = policy::masquerade_address(tables, route.source)?;
    }
    let taken_over = ended && takes_over(packet, tables, key, reply_key, tuple);
    if !taken_over {
        ports::claim(packet, tables, key, reply_key, tuple, now)?;
    }
    let (vip, client) = ((key.dst, key.dst_port), (key.src, key.src_port));
    let seen = if taken_over { earlier(now) } else { now };
    entry.fill(reply_key, vip, client, FlowState::AWAIT_REPLY, seen);
    let store = |key: &FlowKey<A>, entry: &FlowEntry<A>| match taken_over {
        true => tables
            .flow(Table::Flows, key)
            .map(|former| former.renew(entry))
            .is_some(),
        false => tables.set_flow(Table::Pending, key, entry),
    };
    let stored = store(reply_key, entry) && {
        entry.reverse(reply_key, route.next_hop, FlowState::initial(key.protocol));
        store(key, entry)
    };
    if stored { Ok(()) } else { Err(Reason::FlowTableFull) }
}

/// Whether `rp_filter` of the interface that a packet has come in by refuses its source. IPv4 alone has the setting.
#[inline(always)]
fn is_from_elsewhere<A, P, T>(packet: &P, tables: &T, src: A) -> bool
where
    A: Address,
    P: Packet,
    T: Tables<A>,
{
    let filter = packet.rp_filter();
    if filter == RpFilter::OFF {
        return false;
    }
    let back = route(packet, tables, A::UNSPECIFIED, src);
    match back.next_hop.ifindex {
        // No route, or an address of this node. For other reasons the kernel does not answer programs, as where it does
        // not forward: then it judges by itself.
        0 => back.here,
        ifindex => filter == RpFilter::STRICT && ifindex != packet.ingress_ifindex(),
    }
}

/// Whether a new connection takes over the entries of the ended one that had `key`: that one's replies had `reply_key` too.
/// Any other is removed.
#[inline(always)]
fn takes_over<A, P, T>(
    packet: &P,
    tables: &T,
    key: &FlowKey<A>,
    reply_key: &FlowKey<A>,
    tuple: &mut SocketTuple<A>,
) -> bool
where
    A: Address,
    P: Packet,
    T: Tables<A>,
{
    let Some(original) = tables.flow(Table::Flows, key) else {
        return false;
    };
    let same = flow::reverse_key(key, original) == *reply_key
        && tables
            .flow(Table::Flows, reply_key)
            .is_some_and(|reply| flow::reverse_key(reply_key, reply) == *key)
        && !ports::is_in_use(packet, key, reply_key, tuple);
    if !same {
        tables.forget_flow(Table::Flows, &flow::reverse_key(key, original));
        tables.forget_flow(Table::Flows, key);
    }
    same
}
