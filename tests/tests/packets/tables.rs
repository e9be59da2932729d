//! Reading whole tables while others change them.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use aya::{
    Pod,
    maps::{HashMap, IterableMap as _, Map, MapData},
};
use svcproxy::datapath::entries;
use svcproxy_common::{
    abi::{FlowEntry, FlowKey, Interface, Protocol, V4Addr},
    flow::NextHop,
};

use crate::world::world;

/// Times that a table is read.
const READINGS: u32 = 50;

/// The same map by a handle of its own.
fn again<K: Pod, V: Pod>(map: &HashMap<MapData, K, V>) -> HashMap<MapData, K, V> {
    let id = map.map().info().unwrap().id();
    let map = Map::from_map_data(MapData::from_id(id).unwrap()).unwrap();
    HashMap::try_from(map).unwrap()
}

/// Reads `map` again and again while `change` does to it, by another handle, what a turn is.
fn read_beside<K, V>(
    map: &HashMap<MapData, K, V>,
    change: impl Fn(&mut HashMap<MapData, K, V>, u32) + Sync,
    check: impl Fn(Vec<(K, V)>),
) where
    K: Pod + Send,
    V: Pod + Send,
{
    let mut other = again(map);
    let (turns, done) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let changing = scope.spawn(|| {
            for turn in 0.. {
                change(&mut other, turn);
                turns.store(true, Ordering::Relaxed);
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        while !turns.load(Ordering::Relaxed) && !changing.is_finished() {
            thread::yield_now();
        }
        let readings = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..READINGS {
                check(entries(map, "").unwrap());
            }
        }));
        done.store(true, Ordering::Relaxed);
        readings.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn what_stays_in_a_table_is_read_once_whatever_comes_and_goes() {
    const STAYING: u32 = 2_000;
    const PASSING: u32 = 2_000;

    let mut world = world();
    let interfaces = &mut world.datapath.maps.interfaces;
    let interface = Interface::new(NextHop::ROUTING.delivery);
    let staying: BTreeSet<u32> = (1 << 16..(1 << 16) + STAYING).collect();
    for ifindex in &staying {
        interfaces.insert(ifindex, interface, 0).unwrap();
    }
    read_beside(
        interfaces,
        |interfaces, turn| {
            let ifindex = (1 << 17) + turn / 2 % PASSING;
            match turn % 2 {
                0 => interfaces.insert(ifindex, interface, 0).unwrap(),
                _ => interfaces.remove(&ifindex).unwrap(),
            }
        },
        |entries| {
            let read: Vec<u32> = entries.into_iter().map(|(ifindex, _)| ifindex).collect();
            let stayed: Vec<u32> = read
                .iter()
                .copied()
                .filter(|ifindex| staying.contains(ifindex))
                .collect();
            assert_eq!(stayed.len(), staying.len());
            assert_eq!(stayed.into_iter().collect::<BTreeSet<_>>(), staying);
            assert_eq!(read.iter().collect::<BTreeSet<_>>().len(), read.len());
        },
    );
    for ifindex in &staying {
        interfaces.remove(ifindex).unwrap();
    }
    for (ifindex, _) in entries(interfaces, "").unwrap() {
        if ifindex >= 1 << 17 {
            interfaces.remove(&ifindex).unwrap();
        }
    }
}

#[test]
fn a_table_under_a_flood_of_connections_is_read_once() {
    let world = world();
    let pending = &world.datapath.maps.v4.pending;
    let room = pending.map().info().unwrap().max_entries();
    let address = |number: u32| V4Addr {
        octets: number.to_be_bytes(),
    };
    let key = |number| FlowKey {
        src: address(number),
        dst: address(1),
        src_port: 1,
        dst_port: 1,
        protocol: Protocol::TCP,
    };
    let entry = FlowEntry::blank(address(1));
    let mut full = again(pending);
    for number in 0..2 * room {
        full.insert(key(number), entry, 0).unwrap();
    }
    read_beside(
        pending,
        |pending, turn| {
            for number in 0..64 {
                pending.insert(key(2 * room + 64 * turn + number), entry, 0).unwrap();
            }
        },
        |entries| {
            let read = entries.len();
            let keys: BTreeSet<_> = entries.into_iter().map(|(key, _)| key).collect();
            assert_eq!(keys.len(), read, "some were read twice");
        },
    );
}
