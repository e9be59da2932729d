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
        let deliveries = network.links.iter().filter_map(|link| {
            let interface = Interface {
                // What has no entry is sent to with the hardware address that the kernel's routing says.
                delivery: link.delivery(xdp.contains(&link.name)).unwrap_or(Delivery::LINK),
                // Of a bridge, a bond or a VRF the kernel asks that, and not its ports.
                rp_filter: if link.master.is_none() {
                    rp_filter(&link.name)
                } else {
                    RpFilter::OFF
                },
                is_port: link.master.is_some(),
                reserved: 0,
            };
            let default =
                interface.delivery == Delivery::LINK && interface.rp_filter == RpFilter::OFF && !interface.is_port;
            (!default).then_some((link.index, interface))
        });
        let addresses = network.links.iter().map(|link| (link.index, addresses(network, link)));
        self.set_xdp_interfaces(network.links.iter().filter(|link| xdp.contains(&link.name)))?;
        replace(&mut self.maps.interfaces, deliveries.collect(), "interfaces")?;
        replace(
            &mut self.interface_addresses,
            addresses.collect(),
            "interface_addresses",
        )
    }
}

impl Datapath {
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
                reserved: 0,
            };
            if wanted != present {
                self.xdp_interfaces.set(index, wanted, 0).map_err(failed())?;
            }
        }
        Ok(())
    }
}

/// The interface's own setting or that of all, whichever is larger (Documentation/networking/ip-sysctl.rst).
fn rp_filter(name: &str) -> RpFilter {
    let setting = |name: &str| -> u8 {
        let path = format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
        fs::read_to_string(path)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    };
    match setting(name).max(setting("all")) {
        0 => RpFilter::OFF,
        1 => RpFilter::STRICT,
        _ => RpFilter::LOOSE,
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
