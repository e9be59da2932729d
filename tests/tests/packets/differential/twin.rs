//! A host node with the same tables and the same neighbours as the kernel's, and the comparison of what both remember.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    net::{IpAddr, SocketAddr},
};

use aya::{
    Pod,
    maps::{HashMap, MapData},
};
use svcproxy::{
    datapath::{Family, MapKeys, entries},
    plan::{FamilyMaps, MapContents},
};
use svcproxy_common::{
    Reason, Table,
    abi::{AffinityEntry, AffinityKey, Delivery, FlowEntry, FlowKey, FragmentKey, Protocol, V4Addr, V6Addr},
    flow::{Live, NextHop, reverse_key},
};

use super::scene::Scene;
use crate::{
    model::{FamilyTables, Ip, Node, Side, live_affinity, snapshot},
    network::{MTU_VETH0, MTU_VETH1, NEIGHBOUR, NEIGHBOURS, NODE_ADDRESSES},
    world::World,
};

/// Makes the kernel hold the scene and a host node the same.
pub(super) fn twin(world: &mut World, scene: &Scene) -> Node {
    let [veth0, veth1] = scene.deliveries;
    world.deliver(veth0, veth1);
    let contents = world.apply(&scene.model, &scene.policy);
    let node = Node::new();
    let MapContents { v4, v6, slots } = &contents;
    copy(v4, &node.tables.v4);
    copy(v6, &node.tables.v6);
    for (offset, region) in slots {
        for (index, endpoint) in (*offset..).zip(region.iter()) {
            node.tables.slots.insert(index, *endpoint);
        }
    }
    if scene.half_written {
        let maps = &mut world.datapath.maps;
        if let Some(key) = v4.backends.keys().next() {
            maps.v4.backends.remove(key).unwrap();
            node.tables.v4.backends.remove(key);
        }
        if let Some(key) = v6.backends.keys().next_back() {
            maps.v6.backends.remove(key).unwrap();
            node.tables.v6.backends.remove(key);
        }
    }
    routes(&node, world, scene);
    node
}

fn copy<A: Side>(from: &FamilyMaps<A>, to: &FamilyTables<A>) {
    for (key, entry) in &from.services {
        to.services.insert(*key, *entry);
    }
    for (key, backend) in &from.backends {
        to.backends.insert(*key, *backend);
    }
    let networks = from.networks.iter();
    *to.networks.borrow_mut() = networks
        .map(|(prefix, what)| (prefix.data, prefix.length, *what))
        .collect();
    let ranges = from.source_ranges.keys();
    // The number of the Service is the first 32 bits of the prefix.
    *to.source_ranges.borrow_mut() = ranges
        .map(|range| (range.data.service, range.data.client, range.length - u32::BITS))
        .collect();
    if let Some(config) = from.config {
        to.config.insert((), config);
    }
}

/// What the kernel's routing says of every address.
fn routes(node: &Node, world: &World, scene: &Scene) {
    let own = NODE_ADDRESSES.map(|ip| ip.parse::<IpAddr>().unwrap());
    node.delivers_the_rest.set(true);
    // The kernel does not know its hardware address.
    let unresolved = |ifindex| NextHop {
        delivery: Delivery::NEIGHBOUR,
        ifindex,
        mtu: u16::MAX,
        dst_mac: [0; 6],
        src_mac: [0; 6],
    };
    for ip in Ip::ALL {
        let source = |first: usize| Some(own[first + usize::from(ip == Ip::V6)]);
        let [veth0, veth1] = scene.deliveries;
        for (of, ifindex, mtu, mac, delivery, source) in [
            (
                Ip::client as fn(Ip, u16, u16) -> SocketAddr,
                world.veth0,
                MTU_VETH0,
                2,
                veth0,
                source(0),
            ),
            (Ip::other_pod, world.veth0, MTU_VETH0, 2, veth0, source(0)),
            (Ip::pod, world.veth1, MTU_VETH1, 3, veth1, source(2)),
        ] {
            for number in 1..=NEIGHBOURS {
                let hop = NextHop {
                    delivery: delivery.unwrap_or(Delivery::LINK),
                    ifindex,
                    mtu,
                    dst_mac: NEIGHBOUR,
                    src_mac: [2, 0, 0, 0, 0, mac],
                };
                node.set_route(of(ip, number, 0).ip(), hop, source);
            }
            node.set_route(of(ip, NEIGHBOURS + 1, 0).ip(), unresolved(ifindex), source);
            match of(ip, 0, 0).ip() {
                IpAddr::V4(network) => node.set_route_to::<V4Addr>(&network.octets()[..2], unresolved(ifindex)),
                IpAddr::V6(network) => node.set_route_to::<V6Addr>(&network.octets()[..8], unresolved(ifindex)),
            }
        }
    }
    // What is this node's or everybody's, and black holes, nobody forwards.
    let nowhere = [
        "10.0.255.255",
        "10.244.255.255",
        "10.250.0.1",
        "fd00:a::",
        "fd00:244::",
        "fd00:250::1",
    ];
    let nowhere = nowhere.map(|ip| ip.parse().unwrap());
    for ip in own.into_iter().chain(nowhere) {
        node.set_route(ip, NextHop::ROUTING, None);
    }
}

/// One family's tables on both sides.
pub(super) struct Sides<'a, A: MapKeys + Side> {
    ours: &'a FamilyTables<A>,
    theirs: &'a mut Family<A>,
}

/// Runs something on both families.
pub(super) fn both_families<T>(
    world: &mut World,
    node: &Node,
    mut v4: impl FnMut(Sides<'_, V4Addr>) -> T,
    mut v6: impl FnMut(Sides<'_, V6Addr>) -> T,
) -> [T; 2] {
    let maps = &mut world.datapath.maps;
    let (v4_sides, v6_sides) = (
        Sides {
            ours: &node.tables.v4,
            theirs: &mut maps.v4,
        },
        Sides {
            ours: &node.tables.v6,
            theirs: &mut maps.v6,
        },
    );
    [v4(v4_sides), v6(v6_sides)]
}

impl<A: MapKeys + Side> Sides<'_, A>
where
    FlowKey<A>: Pod,
    FlowEntry<A>: Pod,
    AffinityKey<A>: Pod,
    FragmentKey<A>: Pod,
{
    /// Compares everything that both remember, but for the time.
    pub(super) fn compare(self) -> Result<(), String> {
        let Self { ours, theirs } = self;
        same("flows", &theirs.flows, ours.flows.contents(snapshot), timeless)?;
        same("pending", &theirs.pending, ours.pending.contents(snapshot), timeless)?;
        let client = |entry: AffinityEntry| AffinityEntry { last_seen: 0, ..entry };
        same(
            "affinity",
            &theirs.affinity,
            ours.affinity.contents(live_affinity),
            client,
        )?;
        let fragments = ours.fragments.contents(|ports| *ports);
        same("fragments", &theirs.fragments, fragments, |ports| ports)
    }

    /// Compares what both remember of one packet's connection. False when they differ in the time at least: the kernel
    /// took it for another second.
    pub(super) fn compare_flow(self, key: FlowKey<A>) -> Result<bool, String> {
        let mut keys = vec![key];
        for table in [Table::Flows, Table::Pending] {
            keys.extend(self.ours.table(table).get(&key).map(|entry| reverse_key(&key, entry)));
        }
        let tables = keys
            .iter()
            .flat_map(|key| [(Table::Flows, *key), (Table::Pending, *key)]);
        let mut differ = None;
        for (table, key) in tables {
            let ours = self.ours.table(table).get(&key).map(snapshot);
            let theirs = match table {
                Table::Flows => &self.theirs.flows,
                Table::Pending => &self.theirs.pending,
            };
            let theirs = theirs.get(&key, 0).ok();
            match (ours, theirs) {
                (Some(ours), Some(theirs)) if ours.last_seen != theirs.last_seen => return Ok(false),
                _ if ours != theirs && differ.is_none() => {
                    differ = Some(format!("{table:?} {key:?}\n  host   {ours:?}\n  kernel {theirs:?}"));
                }
                _ => {}
            }
        }
        differ.map_or(Ok(true), Err)
    }

    /// Lets seconds pass for both: everything was last seen earlier.
    pub(super) fn age(self, seconds: u32) {
        let earlier = |time: u32| time.saturating_sub(seconds);
        for (ours, theirs) in [
            (&self.ours.flows, &mut self.theirs.flows),
            (&self.ours.pending, &mut self.theirs.pending),
        ] {
            for (key, mut entry) in ours.contents(snapshot) {
                entry.last_seen = earlier(entry.last_seen);
                theirs.insert(key, entry, 0).unwrap();
                ours.insert(key, Live::new(entry));
            }
        }
        for (key, mut entry) in self.ours.affinity.contents(live_affinity) {
            entry.last_seen = earlier(entry.last_seen);
            self.theirs.affinity.insert(key, entry, 0).unwrap();
            self.ours.affinity.insert(key, Live::new(entry));
        }
    }

    /// Takes away the endpoints of all TCP connections of clients with this port, as the daemon does: the original half
    /// is told so.
    pub(super) fn lose(self, port: u16) {
        for (ours, theirs) in [
            (&self.ours.flows, &mut self.theirs.flows),
            (&self.ours.pending, &mut self.theirs.pending),
        ] {
            for (key, mut entry) in ours.contents(snapshot) {
                if key.protocol == Protocol::TCP && key.src_port == port && !entry.state.is_reply() {
                    (entry.delivery, entry.ifindex) = (Delivery::RESET, 0);
                    theirs.insert(key, entry, 0).unwrap();
                    ours.insert(key, Live::new(entry));
                }
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(self) {
        let Self { ours, theirs } = self;
        for key in ours.flows.keys() {
            let _ = theirs.flows.remove(&key);
        }
        for key in ours.pending.keys() {
            let _ = theirs.pending.remove(&key);
        }
        for key in ours.affinity.keys() {
            let _ = theirs.affinity.remove(&key);
        }
        for key in ours.fragments.keys() {
            let _ = theirs.fragments.remove(&key);
        }
    }
}

fn timeless<A>(entry: FlowEntry<A>) -> FlowEntry<A> {
    FlowEntry { last_seen: 0, ..entry }
}

fn same<K: Pod + Ord + Debug, V: Pod + PartialEq + Debug>(
    name: &str,
    theirs: &HashMap<MapData, K, V>,
    ours: Vec<(K, V)>,
    timeless: impl Fn(V) -> V,
) -> Result<(), String> {
    let sorted =
        |all: Vec<(K, V)>| -> BTreeMap<K, V> { all.into_iter().map(|(key, entry)| (key, timeless(entry))).collect() };
    let (theirs, ours) = (sorted(entries(theirs, name).unwrap()), sorted(ours));
    let keys = ours.keys().chain(theirs.keys());
    for key in keys {
        if ours.get(key) != theirs.get(key) {
            return Err(format!(
                "{name} {key:?}\n  host   {:?}\n  kernel {:?}",
                ours.get(key),
                theirs.get(key)
            ));
        }
    }
    Ok(())
}

/// Compares how often each reason was counted.
pub(super) fn compare_reasons(
    ours: &[u64; Reason::ALL.len()],
    before: &BTreeMap<Reason, u64>,
    after: &BTreeMap<Reason, u64>,
) -> Result<(), String> {
    for (reason, ours) in Reason::ALL.into_iter().zip(ours) {
        let theirs = after[&reason] - before[&reason];
        if *ours != theirs {
            return Err(format!(
                "{}: counted {ours} times on the host, {theirs} in the kernel",
                reason.name()
            ));
        }
    }
    Ok(())
}
