//! Models and changes of models for the properties.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use proptest::prelude::*;
use svcproxy::model::{Endpoint, Model, Protocol, Service, ServiceName, ServicePort, ServiceType};

/// A few addresses and ports only, so that models overlap in every way: the same address on another Service, with
/// another port, in another order.
pub(crate) fn models() -> impl Strategy<Value = Model> {
    prop::collection::btree_map((0_u8..6, 0_u8..2), service(), 0..6).prop_map(|services| {
        let services = services.into_iter().enumerate().map(|(nth, ((name, _), mut service))| {
            service.name = ServiceName {
                namespace: "default".into(),
                name: format!("service-{name}-{nth}"),
            };
            service
        });
        let mut model = Model {
            services: services.collect(),
        };
        drop_conflicts(&mut model);
        model
    })
}

/// A model and what becomes of it: something else altogether, or the same with a few endpoints come and gone.
pub(crate) fn changes() -> impl Strategy<Value = (Model, Model)> {
    let edits = prop::collection::vec((any::<[prop::sample::Index; 2]>(), endpoints()), 1..4);
    let edited = (models(), edits).prop_map(|(model, edits)| {
        let mut edited = model.clone();
        for ([service, port], endpoints) in edits {
            edit(&mut edited, service, port, endpoints);
        }
        (model, edited)
    });
    prop_oneof![(models(), models()), edited]
}

/// Toggles the first of these endpoints in one port: removes it where it is, else adds it.
fn edit(model: &mut Model, service: prop::sample::Index, port: prop::sample::Index, endpoints: Vec<Endpoint>) {
    let mut ports: Vec<_> = match model.services.len() {
        0 => return,
        count => model.services[service.index(count)].ports.iter_mut().collect(),
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
    let ports = prop::collection::vec((any::<bool>(), 80_u16..83, endpoints()), 1..4);
    (addresses, prop::option::of(1_u32..100), ports).prop_map(|(cluster_ips, affinity_seconds, ports)| Service {
        name: ServiceName {
            namespace: String::new(),
            name: String::new(),
        },
        service_type: ServiceType::ClusterIp,
        cluster_ips,
        affinity_seconds,
        selector: BTreeMap::new(),
        ports: ports
            .into_iter()
            .map(|(tcp, port, endpoints)| ServicePort {
                name: String::new(),
                protocol: if tcp { Protocol::TCP } else { Protocol::UDP },
                port,
                endpoints,
            })
            .collect(),
    })
}

fn endpoints() -> impl Strategy<Value = Vec<Endpoint>> {
    let conditions = prop_oneof![4 => Just((true, true, false)), 1 => any::<(bool, bool, bool)>()];
    let endpoint = (any::<bool>(), 0_u8..6, 8080_u16..8083);
    prop::collection::btree_map(endpoint, conditions, 0..8).prop_map(|endpoints| {
        let mut endpoints: Vec<_> = endpoints
            .into_iter()
            .map(|((is_v4, host, port), (ready, serving, terminating))| Endpoint {
                address: if is_v4 { v4(1, host) } else { v6(1, host) },
                port,
                ready,
                serving,
                terminating,
                node_name: None,
                pod: None,
            })
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

/// Validation has seen to it that no address and port is claimed twice.
fn drop_conflicts(model: &mut Model) {
    let mut claimed = BTreeSet::new();
    for service in &mut model.services {
        let ips = service.cluster_ips.clone();
        service.ports.retain(|port| {
            let keys: Vec<_> = ips.iter().map(|ip| (*ip, port.port, port.protocol)).collect();
            let free = keys.iter().all(|key| !claimed.contains(key));
            if free {
                claimed.extend(keys);
            }
            free
        });
    }
}
