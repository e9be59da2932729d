//! What the programs know of an interface: the maps `interfaces` and `interface_addresses`.

use std::{collections::BTreeMap, net::IpAddr};

use aya::maps::{HashMap, MapData};
use svcproxy_common::abi::{Delivery, Interface, InterfaceAddresses};

use super::{Datapath, DatapathError, maps::delete};
use crate::network::{Link, Snapshot};

impl Link {
    /// What the programs may do with packets for this interface; `xdp` when it runs our XDP program.
    ///
    /// Redirecting from XDP into a veth works only while its other end runs XDP or GRO (`veth_xdp_xmit`,
    /// drivers/net/veth.c); else frames vanish without an error. We cannot look there, so veths take the routing.
    pub fn delivery(&self, xdp: bool) -> Option<Delivery> {
        match self.is_veth() {
            true if self.peer_elsewhere => Some(Delivery::PEER),
            false if xdp => Some(Delivery::XDP),
            _ => None,
        }
    }
}

impl Datapath {
    /// Tells the programs about the interfaces. `xdp` are the names of those that run our XDP program.
    ///
    /// # Errors
    ///
    /// When a map cannot be changed.
    pub fn set_interfaces(&mut self, network: &Snapshot, xdp: &[String]) -> Result<(), DatapathError> {
        let deliveries = network.links.iter().filter_map(|link| {
            let interface = Interface {
                delivery: link.delivery(xdp.contains(&link.name))?,
                reserved: [0; 3],
            };
            Some((link.index, interface))
        });
        let addresses = network.links.iter().map(|link| (link.index, addresses(network, link)));
        replace(&mut self.maps.interfaces, deliveries.collect(), "interfaces")?;
        replace(
            &mut self.interface_addresses,
            addresses.collect(),
            "interface_addresses",
        )
    }
}

/// The first address of each family of an interface. Link-local ones reach no endpoint behind a router.
fn addresses(network: &Snapshot, link: &Link) -> InterfaceAddresses {
    let mut found = InterfaceAddresses::default();
    let own = network
        .addresses
        .iter()
        .filter(|address| address.interface == link.index);
    for address in own {
        match address.ip {
            IpAddr::V4(ip) if found.v4 == [0; 4] => found.v4 = ip.octets(),
            IpAddr::V6(ip) if found.v6 == [0; 16] && !ip.is_unicast_link_local() => found.v6 = ip.octets(),
            _ => {}
        }
    }
    found
}

/// Makes the changes that leave exactly `wanted` in a map.
fn replace<V: aya::Pod + PartialEq>(
    map: &mut HashMap<MapData, u32, V>,
    wanted: BTreeMap<u32, V>,
    name: &'static str,
) -> Result<(), DatapathError> {
    let present: BTreeMap<u32, V> = super::entries(map, name)?.into_iter().collect();
    for (index, value) in &wanted {
        if present.get(index) != Some(value) {
            map.insert(index, value, 0).map_err(DatapathError::map(name))?;
        }
    }
    let gone: Vec<_> = present
        .into_keys()
        .filter(|index| !wanted.contains_key(index))
        .collect();
    delete(map, &gone, name)
}
