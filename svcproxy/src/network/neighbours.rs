//! Which addresses on the node's links answer: the kernel's neighbour tables, reduced to that.

use std::{collections::HashMap, net::IpAddr};

use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};

/// The neighbours of both families: interface and address, and whether its hardware address is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Neighbours(HashMap<(u32, IpAddr), bool>);

impl Neighbours {
    /// Whether a neighbour answers; `None` when nobody has asked it lately.
    pub fn answers(&self, interface: u32, ip: IpAddr) -> Option<bool> {
        self.0.get(&(interface, ip)).copied()
    }
}

impl FromIterator<(u32, IpAddr, bool)> for Neighbours {
    fn from_iter<T: IntoIterator<Item = (u32, IpAddr, bool)>>(neighbours: T) -> Self {
        let entries = neighbours.into_iter();
        Self(
            entries
                .map(|(interface, ip, answers)| ((interface, ip), answers))
                .collect(),
        )
    }
}

impl<'a> FromIterator<&'a NeighbourMessage> for Neighbours {
    fn from_iter<T: IntoIterator<Item = &'a NeighbourMessage>>(messages: T) -> Self {
        let neighbour = |message: &NeighbourMessage| {
            // While packets wait for it a neighbour is asked again and again: incomplete for three seconds, failed until
            // the next packet.
            let answers = match message.header.state {
                NeighbourState::Failed | NeighbourState::Incomplete => false,
                NeighbourState::None => return None,
                _ => true,
            };
            let ip = message.attributes.iter().find_map(|attribute| match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::from(*ip)),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::from(*ip)),
                _ => None,
            })?;
            Some((message.header.ifindex, ip, answers))
        };
        messages.into_iter().filter_map(neighbour).collect()
    }
}
