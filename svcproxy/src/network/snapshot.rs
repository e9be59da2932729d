//! Interfaces, addresses and routes at one moment, reduced to what decisions depend on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType, RouteVia},
    rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage},
};

use super::Link;
use crate::model::Family;

/// The node's network at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Its interfaces, by ifindex.
    pub links: Vec<Link>,
    /// Their addresses, in the kernel's order.
    pub addresses: Vec<Address>,
    /// Unicast routes of the main table, one for each next hop.
    pub routes: Vec<Route>,
    /// Families in which no rule, and no route of any table, asks for more than a packet's destination.
    pub destination_routed: Vec<Family>,
}

impl Snapshot {
    /// The interface of an ifindex.
    pub fn link(&self, index: u32) -> Option<&Link> {
        let found = self.links.binary_search_by_key(&index, |link| link.index);
        found.ok().map(|at| &self.links[at])
    }
}

/// An address of an interface, usable now: duplicate address detection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// ifindex of the interface.
    pub interface: u32,
    /// The address.
    pub ip: IpAddr,
    /// What is on the link: the address's own network, or the other end of a point-to-point link.
    pub network: IpNet,
}

/// A way to a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it leads to.
    pub destination: IpNet,
    /// ifindex of the interface it leads through.
    pub interface: u32,
    /// The router it goes by, unless the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Of routes to one destination, that with the lowest is used.
    pub metric: u32,
}

impl Address {
    /// The address of a message, if it is usable.
    pub(super) fn of(message: &AddressMessage) -> Option<Self> {
        let unusable = AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
        if message.header.flags.intersects(unusable) {
            return None;
        }
        let (mut local, mut address) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Address(ip) => address = Some(*ip),
                _ => {}
            }
        }
        // IFA_ADDRESS is the other end of a point-to-point link, and else the same as IFA_LOCAL, which IPv6 leaves out.
        let network = IpNet::new(address.or(local)?, message.header.prefix_len).ok()?;
        Some(Self {
            interface: message.header.index,
            ip: local.or(address)?,
            network: network.trunc(),
        })
    }
}

impl Route {
    /// The routes of a message: one for each next hop, none unless it is a unicast route of the main table.
    pub(super) fn of(message: &RouteMessage) -> Vec<Self> {
        let header = &message.header;
        let any: IpAddr = match header.address_family {
            AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return Vec::new(),
        };
        let (mut destination, mut interface, mut gateway, mut metric) = (any, None, None, 0);
        let (mut table, mut hops) = (u32::from(header.table), &[][..]);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => destination = ip(address).unwrap_or(any),
                RouteAttribute::Oif(index) => interface = Some(*index),
                RouteAttribute::Priority(priority) => metric = *priority,
                RouteAttribute::Table(number) => table = *number,
                RouteAttribute::MultiPath(next_hops) => hops = next_hops,
                other => gateway = gateway.or(router(other)),
            }
        }
        let Ok(destination) = IpNet::new(destination, header.destination_prefix_length) else {
            return Vec::new();
        };
        if header.kind != RouteType::Unicast || table != u32::from(RouteHeader::RT_TABLE_MAIN) {
            return Vec::new();
        }
        let through = |interface, gateway| Self {
            destination,
            interface,
            gateway,
            metric,
        };
        let single = interface.map(|interface| through(interface, gateway));
        let several = hops
            .iter()
            .map(|hop| through(hop.interface_index, hop.attributes.iter().find_map(router)));
        single.into_iter().chain(several).collect()
    }
}

/// Whether a rule (`ip rule`) is for all packets alike, as the kernel's own are.
pub(super) fn is_for_all(rule: &RuleMessage) -> bool {
    let header = &rule.header;
    let selects = |attribute: &RuleAttribute| match attribute {
        // -1 is none.
        RuleAttribute::SuppressPrefixLen(length) => *length != u32::MAX,
        other => !matches!(
            other,
            RuleAttribute::Table(_) | RuleAttribute::Priority(_) | RuleAttribute::Protocol(_)
        ),
    };
    (header.src_len, header.dst_len, header.tos) == (0, 0, 0)
        && header.action == RuleAction::ToTable
        && !header.flags.contains(RuleFlags::Invert)
        && !rule.attributes.iter().any(selects)
}

/// Whether a route takes all packets to its destination, one way.
pub(super) fn is_by_destination(route: &RouteMessage) -> bool {
    let several = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::MultiPath(hops) if hops.len() > 1);
    route.header.source_prefix_length == 0 && route.header.tos == 0 && !route.attributes.iter().any(several)
}

/// The router of a next hop; an IPv4 route may go by an IPv6 one.
fn router(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(ip)) => Some((*ip).into()),
        RouteAttribute::Via(RouteVia::Inet6(ip)) => Some((*ip).into()),
        _ => None,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}
