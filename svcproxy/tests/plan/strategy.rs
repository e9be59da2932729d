//! Models and changes of models for the properties.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;
use proptest::prelude::*;
use svcproxy::model::{
    Endpoint, Model, Node, NodePolicy, NodePortAddresses, Protocol, Service, ServiceName, ServicePort, ServiceType,
    TrafficPolicy,
};

/// A few addresses and ports only, so that models overlap in every way: the same address on another Service, with
/// another port, in another order.
pub(crate) fn models() -> impl Strategy<Value = Model> {
    prop::collection::btree_map((0_u8..6, 0_u8..2), service(), 0..6).prop_map(|services| {
        let services = services.into_iter().enumerate().map(|(nth, ((name, _), mut service))| {
            service.name = ServiceName {
                namespace: "default".into(),
                name: format!("service-{name}-{nth}"),
            };
            Arc::new(service)
        });
        let mut model = Model {
            services: services.collect(),
            node: node(),
            ..Model::default()
        };
        drop_conflicts(&mut model);
        model
    })
}

/// A model and what becomes of it: something else altogether, or the same with a few endpoints come and gone.
pub(crate) fn changes() -> impl Strategy<Value = (Model, Model)> {
    prop_oneof![(models(), models()), edited()]
}

/// A model, and the same with a few endpoints come and gone.
pub(crate) fn edited() -> impl Strategy<Value = (Model, Model)> {
    let edits = prop::collection::vec((any::<[prop::sample::Index; 2]>(), endpoints()), 1..4);
    (models(), edits).prop_map(|(model, edits)| {
        let mut edited = model.clone();
        for ([service, port], endpoints) in edits {
            edit(&mut edited, service, port, endpoints);
        }
        (model, edited)
    })
}

/// Flags that change what becomes of every client.
pub(crate) fn policies() -> impl Strategy<Value = NodePolicy> {
    let networks = |text: &str| text.split(',').map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
    let cidrs = ["", "10.1.0.0/16", "10.1.0.0/16,fd00:0:0:1::/64"];
    let node_ports = ["", "primary", "10.99.0.0/24"];
    let ranges = ["10.96.0.0/12,fd00:0:0:60::/64", "10.96.0.0/30", "10.0.0.0/8"];
    (0..3_usize, any::<bool>(), 0..3_usize, 0..3_usize).prop_map(move |(cidr, masquerade_all, addresses, range)| {
        let listed = |text: &str| if text.is_empty() { Vec::new() } else { networks(text) };
        NodePolicy {
            service_ranges: networks(ranges[range]),
            cluster_cidrs: listed(cidrs[cidr]),
            masquerade_all,
            nodeport_addresses: match node_ports[addresses] {
                "" => NodePortAddresses::All,
                "primary" => NodePortAddresses::Primary,
                within => NodePortAddresses::Within(networks(within)),
            },
            ..NodePolicy::default()
        }
    })
}

fn node() -> Node {
    Node {
        name: "node-0".into(),
        addresses: vec![v4(99, 1), v4(98, 1), v6(99, 1), v4(1, 254)],
        zone: Some("zone-0".into()),
        leaving: false,
        foreign_networks: vec!["10.97.0.0/29".parse().unwrap()],
        destination_routed: vec![svcproxy::model::Family::V4],
    }
}

/// Toggles the first of these endpoints in one port: removes it where it is, else adds it.
fn edit(model: &mut Model, service: prop::sample::Index, port: prop::sample::Index, endpoints: Vec<Endpoint>) {
    let mut ports: Vec<_> = match model.services.len() {
        0 => return,
        count => Arc::make_mut(&mut model.services[service.index(count)])
            .ports
            .iter_mut()
            .collect(),
    };
    let (count, Some(toggled)) = (ports.len(), endpoints.into_iter().next()) else {
        return;
    };
    if count > 0 {
        let present = &mut ports[port.index(count)].endpoints;
        match present.binary_search_by_key(&(toggled.address, toggled.port), |one| (one.address, one.port)) {
            Ok(index) => drop(present.remove(index)),
            Err(index) => present.insert(index, toggled),
        }
    }
}

fn service() -> impl Strategy<Value = Service> {
    let addresses = prop_oneof![
        (0_u8..6).prop_map(|host| vec![v4(96, host)]),
        (0_u8..6).prop_map(|host| vec![v6(96, host)]),
        (0_u8..6, 0_u8..6).prop_map(|(one, other)| vec![v4(96, one), v6(96, other)]),
    ];
    let external = || prop::collection::btree_set((any::<bool>(), 0_u8..4), 0..3);
    let node_port = prop_oneof![2 => Just(None), 1 => prop::option::of(30080_u16..30083)];
    let port = (any::<bool>(), 80_u16..83, node_port, endpoints());
    let ports = prop::collection::vec(port, 1..4);
    let local = prop::array::uniform2(any::<bool>());
    let ranges = prop::collection::vec(
        prop::sample::select(vec!["10.1.0.0/30", "10.99.0.0/24", "fd00::/16", "::/0"]),
        0..3,
    );
    let affinity = prop::option::of(1_u32..100);
    (addresses, external(), external(), affinity, ports, local, ranges).prop_map(
        |(cluster_ips, external, balanced, affinity_seconds, ports, [internal, outer], ranges)| {
            let of_families = |hosts: BTreeSet<(bool, u8)>| {
                let ips = hosts
                    .into_iter()
                    .map(|(is_v4, host)| if is_v4 { v4(97, host) } else { v6(97, host) });
                let carried = |ip: &IpAddr| {
                    cluster_ips
                        .iter()
                        .any(|cluster_ip| cluster_ip.is_ipv4() == ip.is_ipv4())
                };
                ips.filter(carried).collect::<Vec<_>>()
            };
            let policy = |local| {
                if local {
                    TrafficPolicy::Local
                } else {
                    TrafficPolicy::Cluster
                }
            };
            Service {
                name: ServiceName {
                    namespace: String::new(),
                    name: String::new(),
                },
                service_type: ServiceType::LoadBalancer,
                external_ips: of_families(external),
                load_balancer_ips: of_families(balanced),
                load_balancer_source_ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
                internal_traffic_policy: policy(internal),
                external_traffic_policy: policy(outer),
                health_check_node_port: None,
                cluster_ips,
                affinity_seconds,
                selector: BTreeMap::new(),
                ports: ports
                    .into_iter()
                    .map(|(tcp, port, node_port, endpoints)| ServicePort {
                        name: String::new(),
                        protocol: if tcp { Protocol::TCP } else { Protocol::SCTP },
                        port,
                        node_port,
                        endpoints,
                    })
                    .collect(),
            }
        },
    )
}

fn endpoints() -> impl Strategy<Value = Vec<Endpoint>> {
    let conditions = prop_oneof![4 => Just((true, true, false)), 1 => any::<(bool, bool, bool)>()];
    let hints = |prefix: &'static str| {
        let hint = (0..2_u8).prop_map(move |number| vec![format!("{prefix}-{number}")]);
        prop_oneof![1 => Just(Vec::new()), 2 => hint]
    };
    let endpoint = (any::<bool>(), 0_u8..6, 8080_u16..8083);
    let rest = (conditions, prop::option::of(0..2_u8), hints("node"), hints("zone"));
    prop::collection::btree_map(endpoint, rest, 0..8).prop_map(|endpoints| {
        let mut endpoints: Vec<_> = endpoints
            .into_iter()
            .map(
                |((is_v4, host, port), ((ready, serving, terminating), node, node_hints, zone_hints))| Endpoint {
                    ready,
                    serving,
                    terminating,
                    node_name: node.map(|number| format!("node-{number}")),
                    node_hints,
                    zone_hints,
                    ..Endpoint::ready(if is_v4 { v4(1, host) } else { v6(1, host) }, port)
                },
            )
            .collect();
        endpoints.sort_by_key(|endpoint| (endpoint.address, endpoint.port));
        endpoints
    })
}

fn v4(net: u8, host: u8) -> IpAddr {
    Ipv4Addr::new(10, net, 0, host).into()
}

fn v6(net: u8, host: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, net.into(), 0, 0, 0, host.into()).into()
}

/// Validation has seen to it that no address and port, and no nodePort, is claimed twice.
fn drop_conflicts(model: &mut Model) {
    let mut claimed = BTreeSet::new();
    for service in &mut model.services {
        let service = Arc::make_mut(service);
        let mut ips: Vec<_> = (service.cluster_ips.iter())
            .chain(&service.external_ips)
            .chain(&service.load_balancer_ips)
            .copied()
            .collect();
        ips.sort_unstable();
        ips.dedup();
        service.ports.retain(|port| {
            let node_port = port.node_port.map(|number| (None, number, port.protocol));
            let keys: Vec<_> = ips
                .iter()
                .map(|ip| (Some(*ip), port.port, port.protocol))
                .chain(node_port)
                .collect();
            let free = keys.iter().all(|key| !claimed.contains(key));
            if free {
                claimed.extend(keys);
            }
            free
        });
    }
}
