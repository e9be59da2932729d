//! What holds for every model and every change of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use proptest::prelude::*;
use svcproxy::{
    model::{Endpoint, Model, ServicePort},
    plan::{Diff, FamilyMaps, MapAddress, MapContents, plan},
};
use svcproxy_common::{
    abi::{Backend, ServiceKey, V4Addr, V6Addr},
    maglev::table_length,
};

use crate::{
    builder::LIMITS,
    replay::{Kernel, writes},
    strategy::{changes, models},
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn an_unchanged_model_gives_the_same_plan((first, second) in changes()) {
        let first = plan(&first, &MapContents::default(), &LIMITS).unwrap();
        let current = plan(&second, &first, &LIMITS).unwrap();
        let again = plan(&second, &current, &LIMITS).unwrap();
        prop_assert_eq!(&again, &current);
        prop_assert!(Diff::between(&current, &again).is_empty());
    }

    /// Through a series of reloads, each write leaves the maps consistent and the last one exactly as planned.
    #[test]
    fn every_prefix_of_a_diff_is_safe((first, second) in changes(), third in models()) {
        let mut kernel = Kernel::empty(LIMITS.backend_slots);
        for model in [first, second, third] {
            let current = kernel.contents();
            let wanted = plan(&model, &current, &LIMITS).unwrap();
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
        progress in any::<prop::sample::Index>(),
    ) {
        let mut kernel = Kernel::empty(LIMITS.backend_slots);
        reload(&mut kernel, &before, usize::MAX);
        let count = writes(&diff(&kernel, &interrupted)).len();
        reload(&mut kernel, &interrupted, progress.index(count + 1));
        let after = after.unwrap_or(interrupted);
        reload(&mut kernel, &after, usize::MAX);
        assert_serves(&kernel.contents(), &after);
    }

    #[test]
    fn a_fresh_region_overlaps_none_in_use((before, after) in changes()) {
        let current = plan(&before, &MapContents::default(), &LIMITS).unwrap();
        let wanted = plan(&after, &current, &LIMITS).unwrap();
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
        let current = plan(&before, &MapContents::default(), &LIMITS).unwrap();
        let wanted = plan(&after, &current, &LIMITS).unwrap();
        assert_numbers_stay(&current.v4, &wanted.v4);
        assert_numbers_stay(&current.v6, &wanted.v6);
        let old: BTreeSet<_> = current.backend_keys().map(|key| key.endpoint).collect();
        let kept: BTreeMap<_, _> = addresses(&current);
        for (number, address) in addresses(&wanted) {
            prop_assert!(!old.contains(&number) || kept[&number] == address, "{number} went to {address}");
        }
    }
}

fn diff(kernel: &Kernel, model: &Model) -> Diff {
    let current = kernel.contents();
    Diff::between(&current, &plan(model, &current, &LIMITS).unwrap())
}

/// Makes the first `count` writes towards the model.
fn reload(kernel: &mut Kernel, model: &Model, count: usize) {
    for write in writes(&diff(kernel, model)).iter().take(count) {
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
        if let Some(old) = current.services.get(key) {
            assert_eq!(new.endpoint_set, old.endpoint_set, "{key:?}");
            let same_numbers = || {
                current
                    .set(old.endpoint_set)
                    .map(|(number, backend)| (number, backend.address))
            };
            if same_numbers().eq(wanted
                .set(new.endpoint_set)
                .map(|(number, backend)| (number, backend.address)))
            {
                assert_eq!(
                    (new.slot_offset, new.slot_count),
                    (old.slot_offset, old.slot_count),
                    "{key:?}"
                );
            }
        }
    }
}

/// Checks the contents against the model by another way than the plan's: entry by entry.
fn assert_serves(contents: &MapContents, model: &Model) {
    let mut entries = 0;
    for service in &model.services {
        for (address, port) in service
            .cluster_ips
            .iter()
            .flat_map(|ip| service.ports.iter().map(move |port| (*ip, port)))
        {
            entries += 1;
            match address {
                IpAddr::V4(_) => assert_serves_port::<V4Addr>(contents, address, port),
                IpAddr::V6(_) => assert_serves_port::<V6Addr>(contents, address, port),
            }
        }
    }
    assert_eq!(contents.entries().count(), entries);
}

fn assert_serves_port<A: MapAddress>(contents: &MapContents, address: IpAddr, port: &ServicePort) {
    let maps = A::maps(contents);
    let key = ServiceKey {
        address: A::from_ip(address).unwrap(),
        port: port.port.into(),
        protocol: port.protocol,
    };
    let entry = maps.services[&key];
    let family = || {
        port.endpoints
            .iter()
            .filter(|endpoint| endpoint.address.is_ipv4() == address.is_ipv4())
    };
    let mut expected: BTreeSet<_> = family().filter(|endpoint| endpoint.ready).map(socket).collect();
    if expected.is_empty() {
        expected = family()
            .filter(|endpoint| endpoint.serving && endpoint.terminating)
            .map(socket)
            .collect();
    }
    let backends: BTreeMap<_, _> = maps.set(entry.endpoint_set).collect();
    let in_set: BTreeSet<_> = backends
        .values()
        .map(|backend| (backend.address.ip(), backend.port))
        .collect();
    assert_eq!(in_set, expected);
    assert_eq!(Some(entry.slot_count), table_length(expected.len()));
    if entry.slot_count > 0 {
        let region = &contents.slots[&entry.slot_offset];
        let in_slots: BTreeSet<_> = region.iter().map(|number| socket_of(backends[number])).collect();
        assert_eq!(in_slots, expected);
    }
}

fn socket(endpoint: &Endpoint) -> (IpAddr, u32) {
    (endpoint.address, endpoint.port.into())
}

fn socket_of<A: MapAddress>(backend: &Backend<A>) -> (IpAddr, u32) {
    (backend.address.ip(), backend.port)
}
