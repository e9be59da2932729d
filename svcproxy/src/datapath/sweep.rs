//! Connections that nobody uses any more are taken out of the tables. The programs treat an expired entry as none,
//! so this is only about room, and about `get flows` showing what is.

use aya::{Pod, maps::MapData};
use nix::time::{ClockId, clock_gettime};
use svcproxy_common::{
    abi::{Address, FlowEntry, FlowKey},
    filter::Renewal,
    flow::{age, reverse_key},
};

use super::{
    DatapathError, Family, MapKeys, Maps,
    maps::{delete, visit},
};

/// Seconds of CLOCK_MONOTONIC: the time of `last_seen` in all maps.
pub fn now() -> u32 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| time.tv_sec() as u32)
}

impl Maps {
    /// Removes expired connections, and what is known of keys and addresses that nothing has any more; returns how many table
    /// entries that were.
    ///
    /// # Errors
    ///
    /// When a table cannot be read or changed.
    pub fn sweep(&mut self, now: u32) -> Result<usize, DatapathError> {
        let Self {
            v4, v6, flow_filter, ..
        } = self;
        let removed = flow_filter.renew(|filter| Ok(v4.sweep(now, filter)? + v6.sweep(now, filter)?))?;
        self.forget_unknown()?;
        Ok(removed)
    }
}

impl<A: MapKeys + Address> Family<A>
where
    FlowKey<A>: Pod,
    FlowEntry<A>: Pod,
{
    /// The same for one family; adds all of `flows_` to the filter.
    fn sweep(&mut self, now: u32, filter: &Renewal<'_>) -> Result<usize, DatapathError> {
        let tables = [
            (&mut self.flows, "flows", Some(filter)),
            (&mut self.pending, "pending", None),
        ];
        let mut removed = 0;
        for (table, name, filter) in tables {
            let mut silent = Vec::new();
            visit(table, name, |key, entry| {
                if let Some(filter) = filter {
                    filter.add(&key);
                }
                silent.extend(halves_of_silent(&key, &entry, now))
            })?;
            removed += remove(silent, now, &mut Named { table, name })?;
        }
        Ok(removed)
    }
}

/// A flow table while programs use it.
trait FlowTable<A> {
    /// The entry that has this key now.
    fn entry(&self, key: &FlowKey<A>) -> Option<FlowEntry<A>>;
    /// Removes whatever has it.
    fn delete(&mut self, key: &FlowKey<A>) -> Result<(), DatapathError>;
}

/// A map and what errors call it.
struct Named<'a, A> {
    table: &'a mut aya::maps::HashMap<MapData, FlowKey<A>, FlowEntry<A>>,
    name: &'static str,
}

impl<A> FlowTable<A> for Named<'_, A>
where
    FlowKey<A>: Pod,
    FlowEntry<A>: Pod,
{
    fn entry(&self, key: &FlowKey<A>) -> Option<FlowEntry<A>> {
        self.table.get(key, 0).ok()
    }

    fn delete(&mut self, key: &FlowKey<A>) -> Result<(), DatapathError> {
        delete(self.table, &[*key], self.name)
    }
}

/// Both keys of a connection of which one half has been silent for so long that it may have expired: the reply's first.
///
/// The original's half tells the state and with it the time. A reply's half without it lasts as long as any, and one
/// beside it is found by it.
fn halves_of_silent<A: Address>(key: &FlowKey<A>, entry: &FlowEntry<A>, now: u32) -> Option<[FlowKey<A>; 2]> {
    let halves = match entry.state.is_reply() {
        true => [*key, reverse_key(key, entry)],
        false => [reverse_key(key, entry), *key],
    };
    (age(entry.last_seen, now) > entry.state.timeout()).then_some(halves)
}

/// Whether the connection has been silent, both ways, for longer than its state allows.
fn is_expired<A: Address>(key: &FlowKey<A>, entry: &FlowEntry<A>, now: u32, table: &impl FlowTable<A>) -> bool {
    let peer = table.entry(&reverse_key(key, entry));
    let original = if entry.state.is_reply() { peer } else { Some(*entry) };
    let timeout = original.map_or(entry.state, |original| original.state).timeout();
    age(entry.last_seen, now) > timeout && peer.is_none_or(|peer| age(peer.last_seen, now) > timeout)
}

/// Removes what has expired; returns how many entries that were.
///
/// To read a table takes long enough for clients to open some of these connections anew: such a one would lose its
/// reply half, and its endpoint's answers would leave untranslated. So each is looked at just before; what is left
/// is the time from one system call to the next, as the kernel removes whatever has a key. The reply's half goes first,
/// while the other can tell its state; a connection that loses the other has it restored by its next packet.
fn remove<A: Address>(
    silent: Vec<[FlowKey<A>; 2]>,
    now: u32,
    table: &mut impl FlowTable<A>,
) -> Result<usize, DatapathError> {
    let mut removed = 0;
    for key in silent.into_iter().flatten() {
        let entry = table.entry(&key);
        if entry.is_some_and(|entry| is_expired(&key, &entry, now, table)) {
            table.delete(&key)?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use svcproxy_common::{
        abi::{FlowState, Protocol, V4Addr},
        flow::NextHop,
    };

    use super::*;

    const NOW: u32 = 1_000;

    type Entries = HashMap<FlowKey<V4Addr>, FlowEntry<V4Addr>>;

    impl FlowTable<V4Addr> for Entries {
        fn entry(&self, key: &FlowKey<V4Addr>) -> Option<FlowEntry<V4Addr>> {
            self.get(key).copied()
        }

        fn delete(&mut self, key: &FlowKey<V4Addr>) -> Result<(), DatapathError> {
            self.remove(key);
            Ok(())
        }
    }

    /// A flow of the client's port 1000: the original half, the reply half.
    fn flow(state: FlowState, request: u32, reply: u32) -> [(FlowKey<V4Addr>, FlowEntry<V4Addr>); 2] {
        let [client, vip, pod] = [[10, 0, 0, 1], [10, 96, 0, 1], [10, 244, 0, 1]].map(|octets| V4Addr { octets });
        let key = FlowKey {
            src: client,
            dst: vip,
            src_port: 1000,
            dst_port: 80,
            protocol: Protocol::UDP,
        };
        let mut entry = FlowEntry::blank(client);
        entry.fill(&key, (client, 1000), (pod, 8080), state, request);
        let mut other = entry;
        other.reverse(&key, NextHop::ROUTING, FlowState::REPLY);
        other.last_seen = reply;
        [(key, entry), (reverse_key(&key, &entry), other)]
    }

    fn silent(table: &Entries) -> Vec<[FlowKey<V4Addr>; 2]> {
        table
            .iter()
            .filter_map(|(key, entry)| halves_of_silent(key, entry, NOW))
            .collect()
    }

    #[test]
    fn a_connection_lives_while_either_direction_does() {
        // seconds since the last request, since the last reply, state → entries swept
        for (request, reply, state, swept) in [
            (31, 31, FlowState::UDP_UNREPLIED, 2),
            (30, 31, FlowState::UDP_UNREPLIED, 0),
            (31, 31, FlowState::UDP_REPLIED, 0),
            (121, 0, FlowState::UDP_REPLIED, 0),
            (121, 121, FlowState::UDP_REPLIED, 2),
        ] {
            let mut table = Entries::from(flow(state, NOW - request, NOW - reply));
            let silent = silent(&table);
            assert_eq!(
                remove(silent, NOW, &mut table).unwrap(),
                swept,
                "{request} {reply} {state:?}"
            );
            assert_eq!(table.len(), 2 - swept);
        }
    }

    #[test]
    fn a_connection_that_has_opened_anew_since_the_table_was_read_stays() {
        let seen = Entries::from(flow(FlowState::CLOSING, NOW - 121, NOW - 121));
        let silent = silent(&seen);
        assert_eq!(silent.len(), 1);
        let opened = Entries::from(flow(FlowState::ESTABLISHED, NOW, NOW));
        let mut table = opened.clone();
        assert_eq!(remove(silent, NOW, &mut table).unwrap(), 0);
        assert_eq!(table, opened);
    }

    #[test]
    fn a_reply_half_goes_while_the_other_tells_its_state() {
        let seen = Entries::from(flow(FlowState::CLOSING, NOW - 121, NOW - 121));
        let [[first, last]] = silent(&seen)[..] else {
            panic!("the connection has expired");
        };
        assert!(seen[&first].state.is_reply() && !seen[&last].state.is_reply());
    }

    #[test]
    fn a_reply_half_without_the_other_lasts_as_long_as_any_connection() {
        for (silence, swept) in [(86_400, 0), (86_401, 1)] {
            let now = NOW + 86_400;
            let [_, (key, mut entry)] = flow(FlowState::UDP_REPLIED, 0, 0);
            entry.last_seen = now - silence;
            let mut table = Entries::from([(key, entry)]);
            let silent = halves_of_silent(&key, &entry, now).into_iter().collect();
            assert_eq!(remove(silent, now, &mut table).unwrap(), swept, "{silence} s");
        }
    }
}
