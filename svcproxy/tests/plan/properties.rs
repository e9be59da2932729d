//! What holds for every model and every change of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use proptest::prelude::*;
use svcproxy::{
    conformance::decide,
    model::{Model, NodePolicy, Protocol},
    plan::{Diff, FamilyMaps, MapAddress, MapContents, plan, plan_endpoints},
};
use svcproxy_common::abi::{EndpointSet, Way};

use crate::{
    builder::LIMITS,
    interpret::outcome,
    replay::{Kernel, writes},
    strategy::{changes, edited, models, policies},
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn an_unchanged_model_gives_the_same_plan((first, second) in changes()) {
        let first = plan(&first, &NodePolicy::default(), &MapContents::default(), &LIMITS).unwrap();
        let current = plan(&second, &NodePolicy::default(), &first, &LIMITS).unwrap();
        let again = plan(&second, &NodePolicy::default(), &current, &LIMITS).unwrap();
        prop_assert_eq!(&again, &current);
        prop_assert!(Diff::between(&current, &again).is_empty());
    }

    /// Through a series of reloads, each write leaves the maps consistent and the last one exactly as planned.
    #[test]
    fn every_prefix_of_a_diff_is_safe(
        (first, second) in changes(),
        third in models(),
        policies in prop::array::uniform3(policies()),
    ) {
        let mut kernel = Kernel::empty(LIMITS.backend_slots);
        for (model, policy) in [first, second, third].iter().zip(&policies) {
            let current = kernel.contents();
            let wanted = plan(model, policy, &current, &LIMITS).unwrap();
            for write in writes(&Diff::between(&current, &wanted)) {
                kernel.write(&write);
                kernel.assert_consistent();
            }
            prop_assert_eq!(kernel.contents(), wanted);
        }
    }

    /// A daemon that dies in the middle of an update leaves maps from which its successor reaches what is wanted.
    #[test]
    fn an_interrupted_update_is_repaired(
        (before, interrupted) in changes(),
        after in prop::option::of(models()),
        policies in prop::array::uniform3(policies()),
        progress in any::<prop::sample::Index>(),
    ) {
        let mut kernel = Kernel::empty(LIMITS.backend_slots);
        reload(&mut kernel, &before, &policies[0], usize::MAX);
        let count = writes(&diff(&kernel, &interrupted, &policies[1])).len();
        reload(&mut kernel, &interrupted, &policies[1], progress.index(count + 1));
        let after = after.unwrap_or(interrupted);
        reload(&mut kernel, &after, &policies[2], usize::MAX);
        assert_serves(&kernel.contents(), &after, &policies[2]);
    }

    /// Planning for the Services with other endpoints alone gives what planning for all of them gives.
    #[test]
    fn a_change_of_endpoints_is_planned_like_all_else(
        earlier in models(),
        (before, after) in edited(),
        policy in policies(),
    ) {
        let earlier = plan(&earlier, &policy, &MapContents::default(), &LIMITS).unwrap();
        let mut current = plan(&before, &policy, &earlier, &LIMITS).unwrap();
        let wanted = plan(&after, &policy, &current, &LIMITS).unwrap();
        let part = plan_endpoints(&before, &after, &policy, &current, &LIMITS).unwrap();
        let part = part.expect("only endpoints differ");
        prop_assert_eq!(part.diff(), Diff::between(&current, &wanted));
        part.put_into(&mut current);
        prop_assert_eq!(current, wanted);
    }

    #[test]
    fn more_than_endpoints_is_not_planned_in_part((before, mut after) in edited(), seconds in 1_u32..9) {
        let current = plan(&before, &NodePolicy::default(), &MapContents::default(), &LIMITS).unwrap();
        let part = |after: &Model| plan_endpoints(&before, after, &NodePolicy::default(), &current, &LIMITS).unwrap();
        prop_assert!(part(&after).is_some());
        let mut elsewhere = after.clone();
        elsewhere.node.addresses.pop();
        prop_assert!(part(&elsewhere).is_none());
        if let Some(service) = after.services.last_mut() {
            Arc::make_mut(service).affinity_seconds = Some(1_000 + seconds);
            prop_assert!(part(&after).is_none());
            after.services.pop();
            prop_assert!(part(&after).is_none());
        }
    }

    #[test]
    fn a_fresh_region_overlaps_none_in_use((before, after) in changes()) {
        let current = plan(&before, &NodePolicy::default(), &MapContents::default(), &LIMITS).unwrap();
        let wanted = plan(&after, &NodePolicy::default(), &current, &LIMITS).unwrap();
        let range = |(offset, region): (&u32, &Arc<[u32]>)| *offset..*offset + region.len() as u32;
        let kept = |offset: &u32, region| current.slots.get(offset).is_some_and(|old| Arc::ptr_eq(old, region));
        let in_use = current.slots.iter().map(range);
        let fresh = wanted.slots.iter().filter(|(offset, region)| !kept(offset, region)).map(range);
        let mut regions: Vec<_> = in_use.chain(fresh).collect();
        regions.sort_by_key(|region| region.start);
        prop_assert!(regions.array_windows().all(|[one, next]| one.end <= next.start), "{regions:?}");
    }

    #[test]
    fn numbers_stay_with_what_stays((before, after) in changes()) {
        let current = plan(&before, &NodePolicy::default(), &MapContents::default(), &LIMITS).unwrap();
        let wanted = plan(&after, &NodePolicy::default(), &current, &LIMITS).unwrap();
        assert_numbers_stay(&current.v4, &wanted.v4);
        assert_numbers_stay(&current.v6, &wanted.v6);
        let old: BTreeSet<_> = current.backend_keys().map(|key| key.endpoint).collect();
        let kept: BTreeMap<_, _> = addresses(&current);
        for (number, address) in addresses(&wanted) {
            prop_assert!(!old.contains(&number) || kept[&number] == address, "{number} went to {address}");
        }
    }
}

fn diff(kernel: &Kernel, model: &Model, policy: &NodePolicy) -> Diff {
    let current = kernel.contents();
    Diff::between(&current, &plan(model, policy, &current, &LIMITS).unwrap())
}

/// Makes the first `count` writes towards the model.
fn reload(kernel: &mut Kernel, model: &Model, policy: &NodePolicy, count: usize) {
    for write in writes(&diff(kernel, model, policy)).iter().take(count) {
        kernel.write(write);
        kernel.assert_consistent();
    }
}

/// The address behind every endpoint number.
fn addresses(contents: &MapContents) -> BTreeMap<u32, IpAddr> {
    let v4 = contents
        .v4
        .backends
        .iter()
        .map(|(key, backend)| (key.endpoint, backend.address.ip()));
    v4.chain(
        contents
            .v6
            .backends
            .iter()
            .map(|(key, backend)| (key.endpoint, backend.address.ip())),
    )
    .collect()
}

fn assert_numbers_stay<A: MapAddress>(current: &FamilyMaps<A>, wanted: &FamilyMaps<A>) {
    for (key, new) in &wanted.services {
        let Some(old) = current.services.get(key).filter(|old| old.service == new.service) else {
            continue;
        };
        // Where both sets of a ServicePort may be meant by one side of an entry, which one keeps its number is open.
        if new.way == Way::CLUSTER_IP || old.way == Way::CLUSTER_IP || old.inside.number != new.inside.number {
            continue;
        }
        let members = |maps: &FamilyMaps<A>, set: EndpointSet| {
            let members = maps.set(set.number);
            members
                .map(|(number, backend)| (number, backend.address))
                .collect::<Vec<_>>()
        };
        if members(current, old.inside) == members(wanted, new.inside) {
            let region = |set: EndpointSet| (set.slot_offset, set.slot_count);
            assert_eq!(region(new.inside), region(old.inside), "{key:?}");
        }
    }
}

/// Checks the contents against the rules, for every kind of client at every address and port there is, and some that
/// there are not.
fn assert_serves(contents: &MapContents, model: &Model, policy: &NodePolicy) {
    let addresses = model.services.iter().flat_map(|service| {
        let external = service.external_ips.iter().chain(&service.load_balancer_ips);
        service.cluster_ips.iter().chain(external).copied()
    });
    let unallocated = [
        "10.96.0.200",
        "10.97.0.5",
        "10.112.0.1",
        "fd00:0:0:60::ffff",
        "10.1.0.77",
    ];
    let unallocated = unallocated.map(|ip| ip.parse::<IpAddr>().unwrap());
    let addresses: BTreeSet<_> = addresses
        .chain(model.node.addresses.clone())
        .chain(unallocated)
        .collect();
    let services = model.services.iter();
    let ports = services.flat_map(|service| service.ports.iter().flat_map(|port| [Some(port.port), port.node_port]));
    let ports: BTreeSet<_> = ports.flatten().chain([1]).collect();
    for dst in addresses {
        let clients = match dst {
            IpAddr::V4(_) => [
                "192.0.2.1",
                "10.1.0.3",
                "10.99.0.1",
                "10.97.0.1",
                "10.1.0.254",
                "10.98.0.1",
            ],
            IpAddr::V6(_) => [
                "2001:db8::1",
                "fd00:0:0:1::3",
                "fd00:0:0:63::1",
                "fd00:0:0:61::1",
                "fd00::1",
                "fd00:0:0:1::5",
            ],
        };
        for (src, port) in clients
            .iter()
            .flat_map(|src| ports.iter().map(move |port| (src.parse().unwrap(), *port)))
        {
            for protocol in [Protocol::TCP, Protocol::SCTP] {
                let dst = SocketAddr::new(dst, port);
                let expected = decide(model, policy, src, dst, protocol);
                let planned = outcome(contents, src, dst, protocol);
                let of_rules = (expected.reason, expected.backends.clone(), expected.masquerade);
                assert_eq!(planned, of_rules, "{src} → {dst}/{protocol}");
            }
        }
    }
}
