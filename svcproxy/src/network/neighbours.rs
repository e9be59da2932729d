//! Which addresses on the node's links answer: the kernel's neighbour tables, reduced to that.

use std::{collections::HashMap, net::IpAddr};

use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};

/// The neighbours of both families, by ifindex and address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Neighbours(HashMap<(u32, IpAddr), Neighbour>);

/// What the kernel knows of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    /// It has answered, or needs not.
    Answers,
    /// It has answered, but not lately.
    Stale,
    /// It is asked, or has been, and does not answer.
    Silent,
}

impl Neighbours {
    /// What is known of a neighbour.
    pub fn get(&self, interface: u32, ip: IpAddr) -> Option<Neighbour> {
        self.0.get(&(interface, ip)).copied()
    }
}

impl FromIterator<(u32, IpAddr, Neighbour)> for Neighbours {
    fn from_iter<T: IntoIterator<Item = (u32, IpAddr, Neighbour)>>(neighbours: T) -> Self {
        let entries = neighbours.into_iter();
        Self(
            entries
                .map(|(interface, ip, neighbour)| ((interface, ip), neighbour))
                .collect(),
        )
    }
}

impl<'a> FromIterator<&'a NeighbourMessage> for Neighbours {
    fn from_iter<T: IntoIterator<Item = &'a NeighbourMessage>>(messages: T) -> Self {
        messages.into_iter().filter_map(read).collect()
    }
}

fn read(message: &NeighbourMessage) -> Option<(u32, IpAddr, Neighbour)> {
    let neighbour = match message.header.state {
        // While packets wait for it, a neighbour is asked again and again: incomplete for three seconds, then failed until
        // the next packet.
        NeighbourState::Failed | NeighbourState::Incomplete => Neighbour::Silent,
        NeighbourState::Stale => Neighbour::Stale,
        NeighbourState::None => return None,
        _ => Neighbour::Answers,
    };
    let ip = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::from(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::from(*ip)),
        _ => None,
    })?;
    Some((message.header.ifindex, ip, neighbour))
}
