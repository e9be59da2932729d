//! What live tables remember of a connection and its client, read without changing it.

use std::net::SocketAddr;

use aya::Pod;
use svcproxy_common::{
    abi::{AffinityEntry, AffinityKey, Delivery, FlowEntry, FlowKey, V4Addr, V6Addr},
    flow::reverse_key,
};

use super::{Connection, Rewriting, Tables, flow_key, lookup, rewriting};
use crate::{
    datapath::{DatapathError, Family, MapKeys, Maps, sweep},
    plan::MapAddress,
};

/// What live tables remember that bears on a connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// The endpoint that the client was given, by the number of the Service.
    pub(super) affinity: Option<(u32, AffinityEntry)>,
    /// Both halves of the connection itself, where it exists.
    flow: Option<ExistingFlow>,
}

/// A connection that exists.
#[derive(Debug, Clone, Copy)]
pub struct ExistingFlow {
    /// Where its packets go, and with which source.
    pub rewriting: Rewriting,
    /// Whether the packets asked about are its replies.
    pub reply: bool,
    /// Whether they are reset, because the endpoint is out of reach.
    pub reset: bool,
    /// Seconds since the last one.
    pub idle: u32,
}

impl Memory {
    /// The connection itself, where it exists.
    pub fn flow(&self) -> Option<ExistingFlow> {
        self.flow
    }

    /// Whether the client has been given an endpoint, and how many seconds ago it last used it.
    pub fn affinity_age(&self) -> Option<u32> {
        let (_, entry) = self.affinity?;
        Some(sweep::now().saturating_sub(entry.last_seen))
    }
}

impl Maps {
    /// What these (live) maps remember that bears on a connection to the Service with this number.
    ///
    /// # Errors
    ///
    /// When a table cannot be read.
    pub fn memory_of(&mut self, connection: &Connection, service: Option<u32>) -> Result<Memory, DatapathError> {
        match connection.dst {
            SocketAddr::V4(_) => V4Addr::family(self).memory_of(connection, service),
            SocketAddr::V6(_) => V6Addr::family(self).memory_of(connection, service),
        }
    }
}

impl<A: MapKeys + MapAddress> Family<A>
where
    FlowKey<A>: Pod,
    FlowEntry<A>: Pod,
    AffinityKey<A>: Pod,
    AffinityEntry: Pod,
{
    fn memory_of(&self, connection: &Connection, service: Option<u32>) -> Result<Memory, DatapathError> {
        let key = flow_key::<A>(connection);
        let mut memory = Memory::default();
        if let Some(service) = service {
            let client = AffinityKey {
                client: key.src,
                service,
                reserved: 0,
            };
            let entry = lookup(&self.affinity, &client, "affinity")?;
            memory.affinity = entry.map(|entry| (service, entry));
        }
        for (table, name) in [(&self.pending, "pending"), (&self.flows, "flows")] {
            let Some(entry) = lookup(table, &key, name)? else {
                continue;
            };
            let peer = lookup(table, &reverse_key(&key, &entry), name)?;
            let reply = entry.state.is_reply();
            let original = if reply { peer } else { Some(entry) };
            let timeout = original.map_or(entry.state, |original| original.state).timeout();
            let idle = |half: &FlowEntry<A>| sweep::now().saturating_sub(half.last_seen);
            let idle = peer.as_ref().map_or(u32::MAX, idle).min(idle(&entry));
            if idle <= timeout {
                memory.flow = Some(ExistingFlow {
                    rewriting: Rewriting {
                        masquerade: !reply && entry.src != key.src,
                        ..rewriting(&entry)
                    },
                    reply,
                    reset: entry.delivery == Delivery::RESET,
                    idle,
                });
            }
        }
        Ok(memory)
    }
}
