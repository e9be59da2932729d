//! Connections that nobody uses any more are taken out of the tables. The programs treat an expired entry as none,
//! so this is only about room, and about `get flows` showing what is.

use std::collections::HashMap;

use aya::Pod;
use nix::time::{ClockId, clock_gettime};
use svcproxy_common::{
    abi::{Address, FlowEntry, FlowKey},
    flow::reverse_key,
};

use super::{DatapathError, Family, MapKeys, Maps, entries, maps::delete};

/// Seconds of CLOCK_MONOTONIC: the time of `last_seen` in all maps.
pub fn now() -> u32 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| time.tv_sec() as u32)
}

impl Maps {
    /// Removes expired connections, and what is known of addresses that nothing has any more; returns how many table entries that were.
    ///
    /// # Errors
    ///
    /// When a table cannot be read or changed.
    pub fn sweep(&mut self, now: u32) -> Result<usize, DatapathError> {
        let removed = self.v4.sweep(now)? + self.v6.sweep(now)?;
        self.forget_unknown()?;
        Ok(removed)
    }
}

impl<A: MapKeys + Address> Family<A>
where
    FlowKey<A>: Pod,
    FlowEntry<A>: Pod,
{
    fn sweep(&mut self, now: u32) -> Result<usize, DatapathError> {
        let mut removed = 0;
        for (table, name) in [(&mut self.flows, "flows"), (&mut self.pending, "pending")] {
            let expired = expired(&entries(table, name)?.into_iter().collect(), now);
            delete(table, &expired, name)?;
            removed += expired.len();
        }
        Ok(removed)
    }
}

/// The keys of all entries whose connection has been silent, both ways, for longer than its state allows.
fn expired<A: Address>(table: &HashMap<FlowKey<A>, FlowEntry<A>>, now: u32) -> Vec<FlowKey<A>> {
    let idle = |entry: &FlowEntry<A>| now.saturating_sub(entry.last_seen);
    let is_expired = |key: &FlowKey<A>, entry: &FlowEntry<A>| {
        let peer = table.get(&reverse_key(key, entry));
        let original = if entry.state.is_reply() { peer } else { Some(entry) };
        let timeout = original.map_or(entry.state, |original| original.state).timeout();
        idle(entry) > timeout && peer.is_none_or(|peer| idle(peer) > timeout)
    };
    table
        .iter()
        .filter(|(key, entry)| is_expired(key, entry))
        .map(|(key, _)| *key)
        .collect()
}

#[cfg(test)]
mod tests {
    use svcproxy_common::abi::{FlowState, Protocol, V4Addr};

    use super::*;

    #[test]
    fn a_connection_lives_while_either_direction_does() {
        let [client, vip, pod] = [[10, 0, 0, 1], [10, 96, 0, 1], [10, 244, 0, 1]].map(|octets| V4Addr { octets });
        let key = FlowKey {
            src: client,
            dst: vip,
            src_port: 1000,
            dst_port: 80,
            protocol: Protocol::UDP,
        };
        // seconds since the last request, since the last reply, state → entries swept
        for (request, reply, state, swept) in [
            (31, 31, FlowState::UDP_UNREPLIED, 2),
            (30, 31, FlowState::UDP_UNREPLIED, 0),
            (31, 31, FlowState::UDP_REPLIED, 0),
            (121, 0, FlowState::UDP_REPLIED, 0),
            (121, 121, FlowState::UDP_REPLIED, 2),
        ] {
            let now = 1_000;
            let mut entry = FlowEntry::blank(client);
            entry.fill(&key, (client, 1000), (pod, 8080), state, now - request);
            let reply_key = reverse_key(&key, &entry);
            let mut table = HashMap::from([(key, entry)]);
            entry.reverse(&key, svcproxy_common::flow::NextHop::ROUTING, FlowState::REPLY);
            entry.last_seen = now - reply;
            table.insert(reply_key, entry);
            assert_eq!(expired(&table, now).len(), swept, "{request} {reply} {state:?}");
        }
    }
}
