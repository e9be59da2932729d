//! The filter before `flows_` holds what they hold, whatever happens to either.

use std::net::SocketAddr;

use aya::{
    Pod,
    maps::{HashMap, MapData},
};
use svcproxy::datapath::{entries, links::Hook, sweep};
use svcproxy_common::{
    Reason::Translated,
    abi::{Address, FlowEntry, FlowKey, Protocol::TCP},
};

use crate::{
    cluster::service,
    model::{Ip, sockets, tcp},
    world::{World, world},
};

/// A client of a pod that the ports of one Service lead to, with a connection through port 80.
struct Client {
    ip: Ip,
    address: SocketAddr,
    pod: SocketAddr,
}

impl Client {
    fn establish(world: &mut World, ip: Ip) -> Self {
        let client = Self {
            ip,
            address: ip.client(1, 5000),
            pod: ip.pod(1, 8080),
        };
        let ports = [80, 81, 82].map(|port| (TCP, ip.vip(1, port), [client.pod]));
        let ports: Vec<_> = ports
            .iter()
            .map(|(protocol, vip, pods)| (*protocol, *vip, &pods[..]))
            .collect();
        world.serve(&[service("web", None, &ports)]);
        for (src, dst, flags) in [
            (client.address, ip.vip(1, 80), "S"),
            (client.pod, client.address, "S."),
            (client.address, ip.vip(1, 80), "."),
        ] {
            assert_eq!(world.counted(Hook::Xdp, &tcp(src, dst, flags).bytes()).0, Translated);
        }
        client
    }

    /// A SYN through a port, from the same one as all; the source that the pod sees.
    fn open(&self, world: &mut World, port: u16) -> SocketAddr {
        let left = world.run(Hook::Xdp, &tcp(self.address, self.ip.vip(1, port), "S"));
        let (src, dst) = sockets(&left.frame);
        assert_eq!(dst, self.pod);
        src
    }
}

/// Takes the reply's half of each connection, as the kernel does when it needs the room.
fn evict_replies<A: Address>(flows: &mut HashMap<MapData, FlowKey<A>, FlowEntry<A>>)
where
    FlowKey<A>: Pod,
    FlowEntry<A>: Pod,
{
    for (key, entry) in entries(flows, "flows").unwrap() {
        if entry.state.is_reply() {
            flows.remove(&key).unwrap();
        }
    }
}

/// Entries of connections that are not established.
fn pending(world: &World) -> usize {
    let maps = &world.datapath.maps;
    entries(&maps.v4.pending, "pending").unwrap().len() + entries(&maps.v6.pending, "pending").unwrap().len()
}

#[test]
fn connections_are_remembered_when_it_is_made_anew() {
    let mut world = world();
    for ip in Ip::ALL {
        world.forget();
        let client = Client::establish(&mut world, ip);
        // Once for each generation.
        for port in [81, 82] {
            world.datapath.maps.sweep(sweep::now()).unwrap();
            assert_ne!(
                client.open(&mut world, port),
                client.address,
                "the pod takes it for the first"
            );
        }
        let before = pending(&world);
        assert_eq!(client.open(&mut world, 80), client.address);
        assert_eq!(pending(&world), before, "a SYN that comes once more opens another");
    }
}

#[test]
fn a_half_that_comes_back_is_remembered() {
    let mut world = world();
    for ip in Ip::ALL {
        let client = Client::establish(&mut world, ip);
        evict_replies(&mut world.datapath.maps.v4.flows);
        evict_replies(&mut world.datapath.maps.v6.flows);
        world.datapath.maps.sweep(sweep::now()).unwrap();
        // A SYN that comes once more brings the other half back.
        assert_eq!(client.open(&mut world, 80), client.address);
        assert_ne!(
            client.open(&mut world, 81),
            client.address,
            "the pod takes it for the first"
        );
    }
}
