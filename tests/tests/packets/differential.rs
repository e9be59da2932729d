//! The same random packets through the decision code on the host and through the real programs: the same verdict,
//! the same bytes, and in the end the same tables.
//!
//! `SVCPROXY_PACKETS` sets how many (20 000 unless told), `SVCPROXY_SEED` which.

use std::{collections::BTreeMap, env, fmt::Debug, net::SocketAddr, time::Instant};

use aya::maps::{HashMap, MapData};
use fastrand::Rng;
use svcproxy::{
    datapath::{Family, MapKeys, entries, links::Hook, sweep, trial::Action},
    plan::{FamilyMaps, MapContents},
};
use svcproxy_common::{
    Verdict,
    abi::{
        AffinityEntry, AffinityKey, Delivery, FlowEntry, FlowKey,
        Protocol::{TCP, UDP},
    },
    flow::{Live, NextHop},
};

use crate::{
    cluster::service,
    model::{FamilyTables, Frame, Ip, Node, Outcome, Side, TcIn, TcOut, Xdp, arp, live_affinity, snapshot, tcp, udp},
    world::{MTU_VETH0, MTU_VETH1, NEIGHBOUR, NEIGHBOURS, World, least, world},
};

/// What packets are drawn from: few enough that they meet each other.
const CLIENTS: u16 = 4;
const PORTS: u16 = 12;

#[test]
fn host_and_kernel_agree_on_random_packets() {
    let number = |name: &str, default: u64| env::var(name).map_or(default, |text| text.parse().expect(name));
    let (packets, seed) = (number("SVCPROXY_PACKETS", 20_000), number("SVCPROXY_SEED", 1));
    let mut world = world();
    for (hooks, delivery) in [
        (&[Hook::Xdp][..], Delivery::XDP),
        (&[Hook::TcIn], Delivery::PEER),
        // On its way out no packet opens a connection. Nor does it ask for a next hop; with one for tc the outcome would
        // depend on when the kernel's second ends.
        (&[Hook::TcIn, Hook::TcOut], Delivery::XDP),
    ] {
        world.forget();
        world.deliver(Some(delivery), Some(delivery));
        let node = twin(&mut world, delivery);
        let mut random = Rng::with_seed(seed);
        let start = Instant::now();
        let mut translated = 0;
        for index in 0..packets {
            let frame = random_frame(&mut random);
            let hook = hooks[random.usize(..hooks.len())];
            if frame.len() < least(hook, &frame) {
                continue;
            }
            node.now.set(sweep::now());
            let ours = match hook {
                Hook::Xdp => node.run_bytes::<Xdp>(&frame, 0),
                Hook::TcIn => node.run_bytes::<TcIn>(&frame, 0),
                Hook::TcOut => node.run_bytes::<TcOut>(&frame, 0),
            };
            let theirs = world.run_bytes(hook, &frame, 0);
            let context = format!("{hook} packet {index}: {:?} of {frame:02x?}", ours.verdict);
            assert_eq!(theirs.action, action(hook, &ours, world.veth0), "{context}");
            assert_eq!(theirs.frame, ours.bytes, "{context}");
            translated += u64::from(ours.verdict.is_ok());
        }
        println!(
            "{hooks:?}: {packets} packets, {translated} translated, entries {:?}, {:.1?}",
            node.entries(),
            start.elapsed()
        );
        assert!(
            translated > packets / 3,
            "the packets have little to do with the Services"
        );
        compare(&node.tables.v4, &world.datapath.maps.v4);
        compare(&node.tables.v6, &world.datapath.maps.v6);
    }
}

fn action(hook: Hook, outcome: &Outcome, veth0: u32) -> Action {
    match outcome.verdict {
        Ok(Verdict::Send { ifindex }) if ifindex == veth0 && hook == Hook::Xdp => Action::Transmit,
        Ok(Verdict::Send { .. }) => Action::Redirect,
        Err(reason) if reason.drops() => Action::Drop,
        Ok(Verdict::Route) | Err(_) => Action::Pass,
    }
}

/// Services in the maps, and a host node with the same contents and the same neighbours.
fn twin(world: &mut World, delivery: Delivery) -> Node {
    let mut services = Vec::new();
    for (ip, name) in Ip::ALL.into_iter().zip(["v4", "v6"]) {
        let pods = |port| [ip.pod(1, port), ip.pod(2, port), ip.other_pod(1, port)];
        let lost = [ip.pod(NEIGHBOURS + 1, 8080)];
        for (number, affinity, ports) in [
            (
                1,
                None,
                &[(TCP, ip.vip(1, 80), &pods(8080)[..]), (UDP, ip.vip(1, 53), &pods(5353))][..],
            ),
            (
                2,
                Some(86_400),
                &[(TCP, ip.vip(2, 80), &pods(8080)), (TCP, ip.vip(2, 443), &pods(8443))],
            ),
            (3, None, &[(TCP, ip.vip(3, 80), &[]), (UDP, ip.vip(3, 53), &lost)]),
        ] {
            services.push(service(&format!("{name}-{number}"), affinity, ports));
        }
    }
    let node = Node::new();
    let MapContents { v4, v6, slots } = world.serve(&services);
    copy(&v4, &node.tables.v4);
    copy(&v6, &node.tables.v6);
    for (offset, region) in slots {
        for (index, endpoint) in (offset..).zip(region.iter()) {
            node.tables.slots.insert(index, *endpoint);
        }
    }
    for ip in Ip::ALL {
        for number in 1..=NEIGHBOURS {
            for (socket, ifindex, mtu, mac) in [
                (ip.client(number, 0), world.veth0, MTU_VETH0, 2),
                (ip.other_pod(number, 0), world.veth0, MTU_VETH0, 2),
                (ip.pod(number, 0), world.veth1, MTU_VETH1, 3),
            ] {
                let hop = NextHop {
                    delivery,
                    ifindex,
                    mtu,
                    dst_mac: NEIGHBOUR,
                    src_mac: [2, 0, 0, 0, 0, mac],
                };
                node.set_next_hop(socket.ip(), hop);
            }
        }
    }
    node
}

fn copy<A: Side>(from: &FamilyMaps<A>, to: &FamilyTables<A>) {
    for (key, entry) in &from.services {
        to.services.insert(*key, *entry);
    }
    for (key, backend) in &from.backends {
        to.backends.insert(*key, *backend);
    }
}

/// A request, a reply, or either with something wrong.
fn random_frame(random: &mut Rng) -> Vec<u8> {
    let ip = Ip::ALL[random.usize(..2)];
    let client = ip.client(random.u16(1..=CLIENTS), random.u16(5000..5000 + PORTS));
    let pick = |random: &mut Rng, sockets: &[SocketAddr]| sockets[random.usize(..sockets.len())];
    let is_tcp = random.bool();
    let other = if random.bool() {
        let vips = [
            ip.vip(1, 80),
            ip.vip(2, 80),
            ip.vip(2, 443),
            ip.vip(3, 80),
            ip.vip(1, 53),
            ip.vip(3, 53),
        ];
        pick(random, if is_tcp { &vips[..4] } else { &vips[4..] })
    } else {
        let port = if is_tcp {
            *random.choice(&[8080, 8443]).unwrap()
        } else {
            5353
        };
        pick(random, &[ip.pod(1, port), ip.pod(2, port), ip.other_pod(1, port)])
    };
    let request = other.ip() == ip.vip(1, 0).ip() || other.ip() == ip.vip(2, 0).ip() || other.ip() == ip.vip(3, 0).ip();
    let (src, dst) = if request { (client, other) } else { (other, client) };
    let frame: Frame = if is_tcp {
        tcp(
            src,
            dst,
            random.choice(["S", "S.", ".", ".", "P.", "F.", "R", "R."]).unwrap(),
        )
        .tcp_options(random.usize(..4))
    } else {
        udp(src, dst)
    };
    let length = *random.choice(&[0, 1, 8, 300, 1300, 1400, 1500]).unwrap();
    let frame = frame
        .payload((0..length).map(|_| random.u8(..)).collect::<Vec<_>>())
        .ttl(*random.choice(&[1, 2, 64, 64, 64]).unwrap())
        .vlans(usize::from(random.u8(..) < 5))
        .padding(random.usize(..3));
    let frame = if ip == Ip::V4 && random.u8(..) < 40 {
        frame.options(random.usize(..11))
    } else {
        frame
    };
    let frame = if ip == Ip::V4 && !is_tcp && random.u8(..) < 40 {
        frame.without_checksum()
    } else {
        frame
    };
    let mut bytes = if random.u8(..) < 2 { arp() } else { frame.bytes() };
    if random.u8(..) < 20 {
        let headers = bytes.len().min(14 + 60);
        bytes[random.usize(12..headers)] ^= 1 << random.u8(..8);
    }
    if random.u8(..) < 20 {
        bytes.truncate(random.usize(15..=bytes.len()));
    }
    bytes
}

/// What both sides remember must be the same but for the time.
fn compare<A: Side + MapKeys>(ours: &FamilyTables<A>, theirs: &Family<A>)
where
    FlowKey<A>: aya::Pod,
    FlowEntry<A>: aya::Pod,
    AffinityKey<A>: aya::Pod,
{
    let flow = |entry: &Live<FlowEntry<A>>| snapshot(entry);
    let timeless = |entry: FlowEntry<A>| FlowEntry { last_seen: 0, ..entry };
    same("flows", &theirs.flows, ours.flows.contents(flow), timeless);
    same("pending", &theirs.pending, ours.pending.contents(flow), timeless);
    let timeless = |entry: AffinityEntry| AffinityEntry { last_seen: 0, ..entry };
    same(
        "affinity",
        &theirs.affinity,
        ours.affinity.contents(live_affinity),
        timeless,
    );
}

fn same<K: aya::Pod + Ord + Debug, V: aya::Pod + PartialEq + Debug>(
    name: &str,
    theirs: &HashMap<MapData, K, V>,
    ours: Vec<(K, V)>,
    timeless: impl Fn(V) -> V,
) {
    let sorted =
        |all: Vec<(K, V)>| -> BTreeMap<K, V> { all.into_iter().map(|(key, entry)| (key, timeless(entry))).collect() };
    let (theirs, ours) = (sorted(entries(theirs, name).unwrap()), sorted(ours));
    for (key, entry) in &ours {
        assert_eq!(theirs.get(key), Some(entry), "{name} {key:?}");
    }
    assert_eq!(theirs.len(), ours.len(), "{name}");
}
