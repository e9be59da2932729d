//! One interface, as netlink describes it.

use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, LinkXdp};

use super::NetworkError;

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// ifindex
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `veth`, `bridge`, … as `ip -details link` prints it; none for physical interfaces.
    pub kind: Option<String>,
    /// Whether its frames have Ethernet headers.
    pub ethernet: bool,
    /// Whether it is the loopback.
    pub loopback: bool,
    /// Whether the other end, for a veth, is in another network namespace.
    pub peer_elsewhere: bool,
    /// ifindex of the bridge, bond or VRF it is a port of.
    pub master: Option<u32>,
    /// Its hardware address, if it is one of Ethernet's length.
    pub mac: Option<[u8; 6]>,
    /// Id of the XDP program it runs.
    pub xdp_program: Option<u32>,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            ethernet: message.header.link_layer_type == LinkLayerType::Ether,
            loopback: message.header.link_layer_type == LinkLayerType::Loopback,
            ..Self::default()
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(address) => link.mac = address.try_into().ok(),
                LinkAttribute::LinkNetNsId(_) => link.peer_elsewhere = true,
                LinkAttribute::Controller(index) => link.master = Some(index),
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
    pub fn named<'a>(links: &'a [Self], name: &str) -> Result<&'a Self, NetworkError> {
        let found = links.iter().find(|link| link.name == name);
        found.ok_or_else(|| NetworkError::NoInterface { name: name.to_owned() })
    }

    /// Whether it is one end of a veth pair.
    pub fn is_veth(&self) -> bool {
        self.is(InfoKind::Veth)
    }

    /// Whether it is a bridge.
    pub fn is_bridge(&self) -> bool {
        self.is(InfoKind::Bridge)
    }

    /// Whether no other machine can be behind it: the loopback, or a dummy. Addresses are parked there.
    pub fn leads_nowhere(&self) -> bool {
        self.loopback || self.is(InfoKind::Dummy)
    }

    fn is(&self, kind: InfoKind) -> bool {
        self.kind.as_deref() == Some(kind.to_string().as_str())
    }
}
