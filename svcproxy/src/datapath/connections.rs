//! Where the connections in the tables lead, for the interfaces that must keep their hooks.

use std::{collections::BTreeSet, net::IpAddr};

use aya::Pod;
use svcproxy_common::abi::{FlowEntry, FlowKey, FlowState};

use super::{DatapathError, Family, MapKeys, Maps, maps::visit, sweep};
use crate::plan::MapAddress;

impl Maps {
    /// The endpoints of all connections that have neither ended nor run out of time.
    ///
    /// # Errors
    ///
    /// When a table cannot be read.
    pub fn endpoints_of_connections(&self) -> Result<BTreeSet<IpAddr>, DatapathError> {
        let mut endpoints = BTreeSet::new();
        self.v4.endpoints_of_connections(&mut endpoints)?;
        self.v6.endpoints_of_connections(&mut endpoints)?;
        Ok(endpoints)
    }
}

impl<A: MapKeys + MapAddress> Family<A>
where
    FlowKey<A>: Pod,
    FlowEntry<A>: Pod,
{
    fn endpoints_of_connections(&self, endpoints: &mut BTreeSet<IpAddr>) -> Result<(), DatapathError> {
        let now = sweep::now();
        for (table, name) in [(&self.flows, "flows"), (&self.pending, "pending")] {
            visit(table, name, |_: FlowKey<A>, entry: FlowEntry<A>| {
                let over = entry.state.is_reply()
                    || entry.state == FlowState::CLOSING
                    || now.saturating_sub(entry.last_seen) > entry.state.timeout();
                if !over {
                    endpoints.insert(entry.dst.ip());
                }
            })?;
        }
        Ok(())
    }
}
