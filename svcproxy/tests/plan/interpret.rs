//! Map contents read the way the programs read them, for a new connection: the decision code of `svcproxy_common` is
//! for single packets, this is for the whole set that a connection chooses from.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use svcproxy::{
    model::Protocol,
    plan::{FamilyMaps, MapAddress, MapContents, Prefix},
};
use svcproxy_common::{
    Reason,
    abi::{Empty, Network, ServiceEntry, ServiceKey, SourceRange, Way},
};

/// Why, to which endpoints, and whether masqueraded.
pub(crate) fn outcome<A: MapAddress>(
    contents: &MapContents,
    src: IpAddr,
    dst: SocketAddr,
    protocol: Protocol,
) -> (Reason, Vec<SocketAddr>, bool) {
    let maps = A::maps(contents);
    let (client, address) = (A::from_ip(src).unwrap(), A::from_ip(dst.ip()).unwrap());
    let entry = match find(maps, address, dst.port(), protocol) {
        Ok(entry) => entry,
        Err(reason) => return (reason, Vec::new(), false),
    };
    if entry.filtered && !in_source_ranges(maps, entry.service, client) {
        return (Reason::SourceRange, Vec::new(), false);
    }
    let (set, masquerade) = match network(maps, client) {
        Some(Network::PODS) => (entry.inside, entry.masquerade_pods),
        Some(Network::NODE) => (entry.inside, entry.masquerade_node),
        _ => (entry.outside, entry.masquerade_outside),
    };
    if set.slot_count == 0 {
        let reason = match set.empty {
            Empty::REJECT => Reason::NoEndpoint,
            Empty::DROP => Reason::NoLocalEndpoint,
        };
        return (reason, Vec::new(), false);
    }
    let region: BTreeSet<u32> = contents.slots[&set.slot_offset].iter().copied().collect();
    assert_eq!(contents.slots[&set.slot_offset].len(), set.slot_count as usize);
    let endpoints: Vec<_> = maps.set(set.number).collect();
    assert_eq!(
        region,
        endpoints.iter().map(|(number, _)| *number).collect(),
        "every endpoint has a slot"
    );
    let mut backends: Vec<_> = endpoints
        .iter()
        .map(|(_, backend)| backend.address.socket(backend.port))
        .collect();
    backends.sort();
    (Reason::Translated, backends, masquerade)
}

fn find<A: MapAddress>(
    maps: &FamilyMaps<A>,
    address: A,
    port: u16,
    protocol: Protocol,
) -> Result<&ServiceEntry, Reason> {
    let mut key = ServiceKey {
        address,
        port: port.into(),
        protocol,
    };
    if let Some(entry) = maps.services.get(&key) {
        return Ok(entry);
    }
    if network(maps, address) != Some(Network::SERVICES) {
        return Err(Reason::NotAService);
    }
    (key.port, key.protocol) = (0, Protocol::ANY);
    match maps.services.get(&key) {
        Some(entry) => {
            assert_eq!(entry.way, Way::OTHER_PORT);
            Err(Reason::OtherPort)
        }
        None => Err(Reason::Unallocated),
    }
}

/// The longest prefix that holds the address.
fn network<A: MapAddress>(maps: &FamilyMaps<A>, address: A) -> Option<Network> {
    let holding = maps.networks.iter().filter(|(prefix, _)| holds::<A>(prefix, address));
    holding
        .max_by_key(|(prefix, _)| prefix.length)
        .map(|(_, network)| *network)
}

fn in_source_ranges<A: MapAddress>(maps: &FamilyMaps<A>, service: u32, client: A) -> bool {
    maps.source_ranges.keys().any(
        |Prefix {
             data: SourceRange {
                 service: of,
                 client: data,
             },
             length,
         }| {
            let prefix = Prefix {
                data: *data,
                length: length - 32,
            };
            *of == service && holds::<A>(&prefix, client)
        },
    )
}

fn holds<A: MapAddress>(prefix: &Prefix<A::Octets>, address: A) -> bool {
    let network = ipnet::IpNet::new(A::from_octets(prefix.data).ip(), prefix.length as u8).unwrap();
    network.contains(&address.ip())
}
