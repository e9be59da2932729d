//! The tables as the decision code sees them: BPF maps in the kernel, hash maps in host tests.

use crate::{
    abi::{Address, AffinityEntry, AffinityKey, Backend, BackendKey, FlowEntry, FlowKey, ServiceEntry, ServiceKey},
    flow::Live,
};

/// Where a connection is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// `flows_v4`, `flows_v6`: traffic has been seen both ways.
    Flows,
    /// `pending_v4`, `pending_v6`: not yet. Small, so that a flood of first packets evicts only its own kind.
    Pending,
}

/// Access to the maps of one family. References are into slots that the kernel may hand to another key once an entry
/// is removed or evicted: short use only.
pub trait Tables<A: Address> {
    /// The entry of a packet's direction.
    fn flow(&self, table: Table, key: &FlowKey<A>) -> Option<&Live<FlowEntry<A>>>;
    /// Stores one direction of a connection. False when the table takes no more.
    fn set_flow(&self, table: Table, key: &FlowKey<A>, entry: &FlowEntry<A>) -> bool;
    /// Moves one direction from the pending table to the flow table.
    fn promote_flow(&self, key: &FlowKey<A>, entry: &Live<FlowEntry<A>>) -> bool;
    /// Removes one direction of a connection.
    fn forget_flow(&self, table: Table, key: &FlowKey<A>);
    /// The Service at an address and port.
    fn service(&self, key: &ServiceKey<A>) -> Option<&ServiceEntry>;
    /// The endpoint in a slot.
    fn slot(&self, index: u32) -> Option<u32>;
    /// Where an endpoint listens; `None` when it is not in the set.
    fn backend(&self, key: &BackendKey) -> Option<&Backend<A>>;
    /// The endpoint a client was given.
    fn affinity(&self, key: &AffinityKey<A>) -> Option<&Live<AffinityEntry>>;
    /// Remembers it. A full table forgets another client.
    fn set_affinity(&self, key: &AffinityKey<A>, entry: &AffinityEntry);
}
