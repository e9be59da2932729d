//! What the programs may do with packets for an interface: the map `interfaces`.

use svcproxy_common::abi::{Delivery, Interface};

use super::{DatapathError, Maps, maps::delete};
use crate::network::Link;

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

impl Maps {
    /// Brings `interfaces` up to date. `xdp` are the names of those that run our XDP program.
    ///
    /// # Errors
    ///
    /// When the map cannot be changed.
    pub fn set_interfaces(&mut self, links: &[Link], xdp: &[String]) -> Result<(), DatapathError> {
        let failed = || DatapathError::map("interfaces");
        let present = super::entries(&self.interfaces, "interfaces")?;
        let wanted: Vec<_> = links
            .iter()
            .filter_map(|link| {
                Some((
                    link.index,
                    Interface {
                        delivery: link.delivery(xdp.contains(&link.name))?,
                        reserved: [0; 3],
                    },
                ))
            })
            .collect();
        for (index, interface) in &wanted {
            if !present.contains(&(*index, *interface)) {
                self.interfaces.insert(index, interface, 0).map_err(failed())?;
            }
        }
        let gone: Vec<_> = present
            .into_iter()
            .map(|(index, _)| index)
            .filter(|index| !wanted.iter().any(|(wanted, _)| wanted == index))
            .collect();
        delete(&mut self.interfaces, &gone, "interfaces")
    }
}
