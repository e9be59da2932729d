//! The tables as the decision code sees them: BPF maps in the kernel, hash maps in host tests.

use crate::{
    Reason,
    abi::{
        Address, AffinityEntry, AffinityKey, Backend, BackendKey, Config, FlowEntry, FlowKey, FragmentKey,
        FragmentPorts, Network, ServiceEntry, ServiceKey, SocketKey, SocketPeer,
    },
    connection,
    flow::Live,
    known::Known,
    ports,
};

/// Where a connection is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// `flows_v4`, `flows_v6`: traffic has been seen both ways.
    Flows,
    /// `pending_v4`, `pending_v6`: not yet. Small, so that a flood of first packets evicts only its own kind.
    Pending,
}

/// A connection being opened. On the kernel's stack there is no room for it.
#[repr(C)]
pub struct Opening<A> {
    /// Whether the endpoint is to see this node's address as the client's.
    pub masquerade: bool,
    /// Key of the reply direction.
    pub reply_key: FlowKey<A>,
    /// Entry of the reply direction, then of the original one.
    pub entry: FlowEntry<A>,
    /// The reply's packets as the kernel is asked about them.
    pub tuple: SocketTuple<A>,
}

/// A packet's addresses and ports as `bpf_sk_lookup_udp` and its like take them (`struct bpf_sock_tuple`).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketTuple<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port, network byte order.
    pub src_port: u16,
    /// Destination port, network byte order.
    pub dst_port: u16,
}

/// Access to the maps of one family. References are into slots that the kernel may hand to another key once an entry
/// is removed or evicted: short use only.
pub trait Tables<A: Address> {
    /// The entry of a packet's direction.
    fn flow(&self, table: Table, key: &FlowKey<A>) -> Option<&Live<FlowEntry<A>>>;
    /// Whether [`Table::Flows`] may hold the key; false is certain. For keys that it hardly holds, see
    /// [`filter`](crate::filter).
    #[inline(always)]
    fn may_hold(&self, _key: &FlowKey<A>) -> bool {
        true
    }
    /// Stores one direction of a connection. False when the table takes no more.
    fn set_flow(&self, table: Table, key: &FlowKey<A>, entry: &FlowEntry<A>) -> bool;
    /// Moves one direction from the pending table to the flow table.
    fn promote_flow(&self, key: &FlowKey<A>, entry: &Live<FlowEntry<A>>) -> bool;
    /// Removes one direction of a connection.
    fn forget_flow(&self, table: Table, key: &FlowKey<A>);
    /// The Service at an address and port.
    fn service(&self, key: &ServiceKey<A>) -> Option<&ServiceEntry>;
    /// This processor's own place to build a connection in. Whoever asks has let go of it before another does.
    #[allow(clippy::mut_from_ref, reason = "a program has its processor to itself while it runs")]
    fn opening(&self) -> Option<&mut Opening<A>>;
    /// What was built there last: the entry of the original direction.
    fn opened(&self) -> Option<&Live<FlowEntry<A>>>;
    /// Which addresses can matter, see [`known`](crate::known).
    fn known(&self) -> Option<&Known>;
    /// What an address belongs to; `None` when it is outside the cluster.
    fn network(&self, address: &A) -> Option<Network>;
    /// Whether a client is in a Service's source ranges.
    fn in_source_ranges(&self, service: u32, client: &A) -> bool;
    /// What holds for the whole node.
    fn config(&self) -> Option<&Config<A>>;
    /// The ports of a datagram whose first fragment has been seen.
    fn fragment(&self, key: &FragmentKey<A>) -> Option<FragmentPorts>;
    /// Whether others of its fragments have come before the first, and been kept. No part of the decision: a host's
    /// tables keep none.
    fn has_early_fragments(&self, _key: &FragmentKey<A>) -> bool {
        false
    }
    /// Remembers them.
    fn set_fragment(&self, key: &FragmentKey<A>, ports: FragmentPorts);
    /// The endpoint in a slot.
    fn slot(&self, index: u32) -> Option<u32>;
    /// Where an endpoint listens; `None` when it is not in the set.
    fn backend(&self, key: &BackendKey) -> Option<&Backend<A>>;
    /// The endpoint a client was given.
    fn affinity(&self, key: &AffinityKey<A>) -> Option<&Live<AffinityEntry>>;
    /// Remembers it. A full table forgets another client.
    fn set_affinity(&self, key: &AffinityKey<A>, entry: &AffinityEntry);
    /// What stands for an address that a socket of this node deals with.
    fn socket(&self, key: &SocketKey<A>) -> Option<SocketPeer<A>>;
    /// Remembers it. A full table forgets another socket's.
    fn set_socket(&self, key: &SocketKey<A>, peer: &SocketPeer<A>);

    /// [`connection::choose`], as these tables' programs call it.
    #[inline(always)]
    fn choose(&self, key: &FlowKey<A>, now: u32) -> Result<(), Reason>
    where
        Self: Sized,
    {
        connection::choose(self, key, now)
    }
    /// [`ports::is_vacant`], as these tables' programs call it.
    #[inline(always)]
    fn is_vacant(&self, reply_key: &FlowKey<A>, key: &FlowKey<A>, now: u32) -> bool
    where
        Self: Sized,
    {
        ports::is_vacant(self, reply_key, key, now)
    }
}
