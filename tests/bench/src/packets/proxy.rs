//! svcproxy's programs as the daemon loads them, with Services in their maps and connections through them.

use anyhow::{Context, Result, ensure};
use aya::Pod;
use svcproxy::{
    datapath::{Datapath, Sizes},
    model::{
        Endpoint, Family, Model, Node, NodePolicy, Protocol, Service, ServiceName, ServicePort, ServiceType,
        TrafficPolicy,
    },
    plan::{Diff, Limits, plan},
};
use svcproxy_common::{
    Reason,
    abi::{Delivery, FlowEntry, FlowKey, Interface, Metadata, V4Addr, V6Addr, XDP_INTERFACES, XdpInterface},
    flow,
};

use super::{
    ip::{Ip, frame},
    node,
    placement::{Target, placements_of},
    programs::{Bench, Hook, Tuples, copy_to_floor},
};

/// The networks of addresses.
pub(super) mod network {
    pub(in super::super) const CLIENTS: u8 = 1;
    pub(in super::super) const NEW_CLIENTS: u8 = 2;
    pub(in super::super) const SERVICES: u8 = 96;
    pub(in super::super) const ELSEWHERE: u8 = 200;
    /// Endpoints, with those after it.
    pub(in super::super) const PODS: u8 = 128;
}

/// Numbers of Services that are in every proxy.
pub(super) const AFFINITY: u32 = 60_000;
pub(super) const EMPTY: u32 = 60_001;
/// The port of every Service.
const PORT: u16 = 80;
/// Endpoints of each.
const ENDPOINTS: u32 = 3;
/// Client ports in use; those below are the system's.
const CLIENT_PORTS: u32 = 1 << 15;

/// TCP's flags.
pub(super) const SYN: u8 = 0x02;
pub(super) const ACK: u8 = 0x10;

/// A loaded datapath.
pub(super) struct Proxy {
    datapath: Datapath,
    pub(super) services: u32,
    xdp: Target,
    tc: Target,
    pub(super) tc_out: Target,
}

/// Connections of a proxy, in both directions; all in an order of no meaning.
pub(super) struct Connections {
    pub(super) requests: Tuples,
    pub(super) replies: Tuples,
}

impl Proxy {
    /// Loads the programs, with so many Services.
    pub(super) fn new(bench: &mut Bench, ifindex: u32, sizes: &Sizes, services: u32, masquerade: bool) -> Result<Self> {
        let mut datapath = Datapath::load(None, sizes)?;
        let model = Model {
            services: (0..services)
                .chain([AFFINITY, EMPTY])
                .map(|index| service(index).into())
                .collect(),
            node: Node {
                addresses: vec!["192.0.2.1".parse()?, "2001:db8::1".parse()?],
                destination_routed: vec![Family::V4, Family::V6],
                ..Node::default()
            },
            ..Model::default()
        };
        let policy = NodePolicy {
            service_ranges: vec!["10.96.0.0/16".parse()?, "fd00:60::/108".parse()?],
            masquerade_all: masquerade,
            ..NodePolicy::default()
        };
        let limits = Limits {
            backend_slots: sizes.slots,
        };
        let maps = &mut datapath.maps;
        let current = maps.contents()?;
        let wanted = plan(&model, &policy, &current, &limits)?;
        maps.apply(&Diff::between(&current, &wanted))?;
        maps.interfaces.insert(ifindex, Interface::new(Delivery::XDP), 0)?;
        let interface = XdpInterface {
            ifindex,
            mac: node::MAC,
            metadata: Metadata::YES,
            is_port: false,
        };
        datapath
            .xdp_interfaces
            .set(ifindex % XDP_INTERFACES, interface, 0)
            .context("cannot describe the interface")?;
        let xdp = bench.add(Hook::Xdp, &placements_of(datapath.xdp()?)?)?;
        let [tc, tc_out] = ["svcproxy_in", "svcproxy_out"].map(|name| {
            let placements = placements_of(datapath.tc(name)?)?;
            bench.add(Hook::Tc, &placements)
        });
        Ok(Self {
            datapath,
            services,
            xdp,
            tc: tc?,
            tc_out: tc_out?,
        })
    }

    /// The program that takes incoming packets at a hook.
    pub(super) fn at(&self, hook: Hook) -> Target {
        match hook {
            Hook::Xdp => self.xdp,
            Hook::Tc => self.tc,
        }
    }

    /// Packets by the reason they were counted for.
    pub(super) fn reasons(&self) -> Result<Vec<(Reason, u64)>> {
        Ok(self.datapath.maps.reasons()?)
    }

    /// Opens connections by real handshakes through the programs, spread over the Services, and copies them to the floor's
    /// table where that is wanted.
    pub(super) fn connect<A: Ip>(&mut self, bench: &mut Bench, count: u32, floor: bool) -> Result<Connections>
    where
        FlowKey<A>: Pod,
        FlowEntry<A>: Pod,
    {
        /// Fewer than `pending` takes.
        const BATCH: u32 = 4096;

        let mut requests = tuples::<A>(network::CLIENTS, count, |index| service_key(index % self.services));
        let mut replies = Vec::with_capacity(requests.len());
        let batch = count.min(BATCH);
        let place = bench.place(&requests[..batch as usize])?;
        let shake = |bench: &mut Bench, keys: &[FlowKey<A>], flags| {
            bench.replace(place, keys)?;
            bench.run::<A>(self.xdp.placed(0), place, 0, &frame::<A>(flags), batch)
        };
        for batch in requests.chunks(batch as usize) {
            shake(bench, batch, SYN)?;
            let first = replies.len();
            for key in batch {
                let entry = A::maps(&mut self.datapath.maps).pending.get(key, 0);
                replies.push(flow::reverse_key(
                    key,
                    &entry.context("a SYN has opened no connection")?,
                ));
            }
            shake(bench, &replies[first..], SYN | ACK)?;
            shake(bench, batch, ACK)?;
        }
        let flows = &A::maps(&mut self.datapath.maps).flows;
        // A connection's halves one after the other, which is how they lie in svcproxy's table.
        for key in requests.iter().zip(&replies).flat_map(<[_; 2]>::from) {
            let entry = flows
                .get(key, 0)
                .context("a connection was not established, or evicted")?;
            ensure!(
                entry.delivery == Delivery::XDP,
                "the kernel's routing gave no next hop: {entry:?}"
            );
            if floor {
                copy_to_floor(bench, key, &entry)?;
            }
        }
        // Tables are filled in order; packets do not come so.
        let mut random = fastrand::Rng::with_seed(count.into());
        random.shuffle(&mut requests);
        random.shuffle(&mut replies);
        Ok(Connections {
            requests: bench.place(&requests)?,
            replies: bench.place(&replies)?,
        })
    }
}

/// Tuples of as many clients' ports as it takes.
pub(super) fn tuples<A: Ip>(network: u8, count: u32, to: impl Fn(u32) -> (A, u16)) -> Vec<FlowKey<A>> {
    let tuple = |index: u32| {
        let (dst, dst_port) = to(index);
        FlowKey {
            src: A::address(network, 1 + index / CLIENT_PORTS),
            dst,
            src_port: (CLIENT_PORTS + index % CLIENT_PORTS) as u16,
            dst_port,
            protocol: Protocol::TCP,
        }
    };
    (0..count).map(tuple).collect()
}

/// Where a Service listens.
pub(super) fn service_key<A: Ip>(number: u32) -> (A, u16) {
    (A::address(network::SERVICES, number + 1), PORT)
}

fn service(number: u32) -> Service {
    let endpoints = if number == EMPTY { 0 } else { ENDPOINTS };
    let endpoint = |nth: u32| {
        let index = number * ENDPOINTS + nth + 1;
        let (network, number) = (network::PODS + (index >> 16) as u8, index & 0xffff);
        [
            V4Addr::address(network, number).ip(),
            V6Addr::address(network, number).ip(),
        ]
        .map(|address| Endpoint::ready(address, 8080))
    };
    Service {
        name: ServiceName {
            namespace: "bench".into(),
            name: format!("service-{number:05}"),
        },
        service_type: ServiceType::ClusterIp,
        cluster_ips: vec![
            service_key::<V4Addr>(number).0.ip(),
            service_key::<V6Addr>(number).0.ip(),
        ],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        load_balancer_source_ranges: Vec::new(),
        internal_traffic_policy: TrafficPolicy::Cluster,
        external_traffic_policy: TrafficPolicy::Cluster,
        health_check_node_port: None,
        affinity_seconds: (number == AFFINITY).then_some(10_800),
        selector: Default::default(),
        ports: vec![ServicePort {
            name: String::new(),
            protocol: Protocol::TCP,
            port: PORT,
            node_port: None,
            endpoints: (0..endpoints).flat_map(endpoint).collect(),
        }],
    }
}
