//! What the programs know of an interface: the maps `interfaces` and `interface_addresses`.

use std::{collections::BTreeMap, fs, net::IpAddr};

use aya::maps::{HashMap, MapData};
use svcproxy_common::abi::{Delivery, Interface, InterfaceAddresses, Metadata, RpFilter, XDP_INTERFACES, XdpInterface};

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
        let of_all = rp_filter("all");
        let deliveries = network.links.iter().filter_map(|link| {
            let interface = Interface {
                // What has no entry is sent to with the hardware address that the kernel's routing says.
                delivery: link.delivery(xdp.contains(&link.name)).unwrap_or(Delivery::LINK),
                // Of a bridge, a bond or a VRF the kernel asks that, and not its ports.
                rp_filter: match link.master {
                    None => accepted(of_all.max(rp_filter(&link.name))),
                    Some(_) => RpFilter::OFF,
                },
                is_port: link.master.is_some(),
                reserved: 0,
            };
            let default =
                interface.delivery == Delivery::LINK && interface.rp_filter == RpFilter::OFF && !interface.is_port;
            (!default).then_some((link.index, interface))
        });
        self.set_xdp_interfaces(network.links.iter().filter(|link| xdp.contains(&link.name)))?;
        replace(&mut self.maps.interfaces, deliveries.collect(), "interfaces")?;
        replace(&mut self.interface_addresses, addresses(network), "interface_addresses")
    }

    /// Enters the interfaces that run XDP. What the programs have found out about them stays.
    fn set_xdp_interfaces<'a>(&mut self, links: impl Iterator<Item = &'a Link>) -> Result<(), DatapathError> {
        let failed = || DatapathError::map("xdp_interfaces");
        for link in links {
            let index = link.index % XDP_INTERFACES;
            let present = self.xdp_interfaces.get(&index, 0).map_err(failed())?;
            let wanted = XdpInterface {
                ifindex: link.index,
                mac: link.mac.unwrap_or_default(),
                metadata: if present.ifindex == link.index {
                    present.metadata
                } else {
                    Metadata::UNKNOWN
                },
                is_port: link.master.is_some(),
            };
            if wanted != present {
                self.xdp_interfaces.set(index, wanted, 0).map_err(failed())?;
            }
        }
        Ok(())
    }
}

/// `net.ipv4.conf.NAME.rp_filter`; 0 where it cannot be read.
fn rp_filter(name: &str) -> u8 {
    let path = format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
    let text = fs::read_to_string(path);
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// What the larger of an interface's setting and that of all means (Documentation/networking/ip-sysctl.rst).
fn accepted(rp_filter: u8) -> RpFilter {
    match rp_filter {
        0 => RpFilter::OFF,
        1 => RpFilter::STRICT,
        _ => RpFilter::LOOSE,
    }
}

/// The first address of each family of each interface. Link-local ones reach no endpoint behind a router.
fn addresses(network: &Snapshot) -> BTreeMap<u32, InterfaceAddresses> {
    let mut found: BTreeMap<u32, InterfaceAddresses> = BTreeMap::new();
    for address in &network.addresses {
        let of_interface = found.entry(address.interface).or_default();
        match address.ip {
            IpAddr::V4(ip) if of_interface.v4 == [0; 4] => of_interface.v4 = ip.octets(),
            IpAddr::V6(ip) if of_interface.v6 == [0; 16] && !ip.is_unicast_link_local() => {
                of_interface.v6 = ip.octets();
            }
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
