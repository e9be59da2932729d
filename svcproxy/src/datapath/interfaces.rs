//! The interfaces of this network namespace, as netlink lists them, and what that allows the programs to do.

use futures_util::{StreamExt as _, TryStreamExt as _};
use netlink_packet_core::NetlinkMessage;
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, LinkXdp},
};
use rtnetlink::{MulticastGroup, new_multicast_connection, sys::SocketAddr};
use svcproxy_common::abi::{Delivery, Interface};

use super::{DatapathError, Maps, maps::delete};

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// ifindex
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `veth`, `bridge`, … as `ip -details link` prints it; none for physical interfaces.
    pub kind: Option<String>,
    /// Whether its frames have Ethernet headers.
    pub ethernet: bool,
    /// Whether the other end, for a veth, is in another network namespace.
    pub peer_elsewhere: bool,
    /// Id of the XDP program it runs.
    pub xdp_program: Option<u32>,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            kind: None,
            ethernet: message.header.link_layer_type == LinkLayerType::Ether,
            peer_elsewhere: false,
            xdp_program: None,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::LinkNetNsId(_) => link.peer_elsewhere = true,
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        if let LinkInfo::Kind(kind) = info {
                            link.kind = Some(kind.to_string());
                        }
                    }
                }
                LinkAttribute::Xdp(attributes) => {
                    for attribute in attributes {
                        if let LinkXdp::ProgId(id) = attribute {
                            link.xdp_program = Some(id);
                        }
                    }
                }
                _ => {}
            }
        }
        link
    }
}

impl Link {
    /// The interface of this name.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn named<'a>(links: &'a [Self], name: &str) -> Result<&'a Self, DatapathError> {
        let found = links.iter().find(|link| link.name == name);
        found.ok_or_else(|| DatapathError::NoInterface { name: name.to_owned() })
    }

    fn is_veth(&self) -> bool {
        self.kind.as_deref() == Some(InfoKind::Veth.to_string().as_str())
    }

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

/// A view of the interfaces that notices changes.
pub struct Links {
    handle: rtnetlink::Handle,
    changes: futures_channel::mpsc::UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
}

impl Links {
    /// Opens netlink. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the kernel gives no netlink socket.
    pub fn open() -> Result<Self, DatapathError> {
        let (connection, handle, changes) = new_multicast_connection(&[MulticastGroup::Link])
            .map_err(|error| DatapathError::Netlink(error.to_string()))?;
        tokio::spawn(connection);
        Ok(Self { handle, changes })
    }

    /// All interfaces.
    ///
    /// # Errors
    ///
    /// When netlink fails.
    pub async fn list(&self) -> Result<Vec<Link>, DatapathError> {
        let links = self
            .handle
            .link()
            .get()
            .execute()
            .map_ok(Link::from)
            .try_collect()
            .await;
        links.map_err(|error| DatapathError::Netlink(error.to_string()))
    }

    /// Waits until one has come, gone or changed.
    pub async fn changed(&mut self) {
        if self.changes.next().await.is_none() {
            std::future::pending().await // netlink is closed: nothing will be heard any more
        }
        // What has queued up meanwhile is answered by the same reading.
        while self.changes.try_recv().is_ok() {}
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
