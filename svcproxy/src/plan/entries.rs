//! Services entries: what they say besides their sets, and that no two have one key.

use std::collections::BTreeMap;

use svcproxy_common::abi::{Empty, EndpointSet, Protocol, ServiceEntry, ServiceKey, Way};

use super::{contents::MapAddress, error::PlanError};
use crate::model::{Model, NodePolicy, Service, TrafficPolicy};

/// No set at all.
pub(super) const NO_SET: EndpointSet = EndpointSet {
    number: 0,
    slot_offset: 0,
    slot_count: 0,
    empty: Empty::REJECT,
};

/// The entry for all ports of a cluster IP that have none of their own.
pub(super) fn other_port<A>(address: A, service: u32) -> (ServiceKey<A>, ServiceEntry) {
    let key = ServiceKey {
        address,
        port: 0,
        protocol: Protocol::ANY,
    };
    let entry = ServiceEntry {
        service,
        affinity_seconds: 0,
        outside: NO_SET,
        inside: NO_SET,
        way: Way::OTHER_PORT,
        filtered: false,
        masquerade_outside: false,
        masquerade_pods: false,
        masquerade_node: false,
        reserved: [0; 3],
    };
    (key, entry)
}

/// Who is masqueraded on the way to a Service.
pub(super) struct Masquerade<'a> {
    pub(super) service: &'a Service,
    pub(super) policy: &'a NodePolicy,
    pub(super) knows_pods: bool,
}

impl Masquerade<'_> {
    /// Clients outside, pods, this node.
    pub(super) fn of(&self, way: Way) -> [bool; 3] {
        match way {
            Way::CLUSTER_IP | Way::OTHER_PORT if self.policy.masquerade_all => [true; 3],
            // Without --cluster-cidr nobody is known to be no pod.
            Way::CLUSTER_IP | Way::OTHER_PORT => [self.knows_pods, false, self.knows_pods],
            Way::NODE_PORT | Way::EXTERNAL_IP | Way::LOAD_BALANCER => match self.service.external_traffic_policy {
                // The endpoint may be elsewhere, and its answers must come back this way.
                TrafficPolicy::Cluster => [true; 3],
                TrafficPolicy::Local => [false, false, true],
            },
        }
    }
}

/// The entries by key. A nodePort gives way to an address that a manifest names, as in kube-proxy's lookups; two
/// Services with one cluster IP share the entry for its other ports; anything else that two claim is an error.
pub(super) fn distinct<A: MapAddress>(
    model: &Model,
    numbers: &[u32],
    mut entries: Vec<(ServiceKey<A>, ServiceEntry)>,
) -> Result<BTreeMap<ServiceKey<A>, ServiceEntry>, PlanError> {
    let distinct: BTreeMap<_, _> = entries.iter().copied().collect();
    if distinct.len() == entries.len() {
        return Ok(distinct);
    }
    let name = |entry: &ServiceEntry| {
        let index = numbers.iter().position(|number| *number == entry.service);
        let index = index.expect("entries carry the numbers given");
        Box::new(model.services[index].name.clone())
    };
    entries.sort_by_key(|(key, entry)| (*key, entry.way == Way::NODE_PORT));
    for [(key, first), (next, second)] in entries.array_windows() {
        let yields = second.way == Way::OTHER_PORT || (second.way == Way::NODE_PORT && first.way != Way::NODE_PORT);
        if key == next && !yields {
            return Err(PlanError::Conflict {
                address: key.address.socket(key.port),
                protocol: key.protocol,
                first: name(first),
                second: name(second),
            });
        }
    }
    entries.dedup_by(|later, first| later.0 == first.0);
    Ok(entries.into_iter().collect())
}
