//! What the maps say of a new connection: its client, its services entry, and *all* endpoints it may reach.
//!
//! The programs choose one endpoint for one packet; this reads the same tables in the same order for the whole set. It
//! shares no code with them, so that either can be checked against the other.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;
use svcproxy_common::{
    Reason,
    abi::{Empty, EndpointSet, Network, Protocol, ServiceEntry, ServiceKey, SourceRange, V4Addr, V6Addr, Way},
};
use thiserror::Error;

use super::{FamilyMaps, MapAddress, MapContents, Prefix};

/// A new connection as the maps see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Why it goes where it goes; [`Reason::Translated`] when there is an endpoint.
    pub reason: Reason,
    /// The most specific network that the client belongs to.
    pub client: Option<(IpNet, Network)>,
    /// The most specific network that the destination belongs to.
    pub destination: Option<(IpNet, Network)>,
    /// The entry at its address and port, or the one for a cluster IP's other ports.
    pub entry: Option<ServiceEntry>,
    /// The endpoints it may go to, sorted.
    pub backends: Vec<SocketAddr>,
    /// Whether it is masqueraded whichever endpoint it goes to. (One that reaches itself always is.)
    pub masquerade: bool,
}

/// Maps that contradict themselves.
#[derive(Debug, Error)]
#[error(
    "the maps contradict themselves: set {set} of endpoints has slots for {in_slots:?}, and backends {in_backends:?}"
)]
pub struct Inconsistent {
    set: u32,
    in_slots: BTreeSet<u32>,
    in_backends: BTreeSet<u32>,
}

impl Reach {
    /// Reads the maps for a connection from `src` to `dst`, which are of one family.
    ///
    /// # Errors
    ///
    /// When the slots of a set and its backends are not the same endpoints.
    pub fn read(
        contents: &MapContents,
        src: IpAddr,
        dst: SocketAddr,
        protocol: Protocol,
    ) -> Result<Self, Inconsistent> {
        match dst.ip() {
            IpAddr::V4(_) => Self::of_family::<V4Addr>(contents, src, dst, protocol),
            IpAddr::V6(_) => Self::of_family::<V6Addr>(contents, src, dst, protocol),
        }
    }

    fn of_family<A: MapAddress>(
        contents: &MapContents,
        src: IpAddr,
        dst: SocketAddr,
        protocol: Protocol,
    ) -> Result<Self, Inconsistent> {
        let maps = A::maps(contents);
        let mut reach = Self {
            reason: Reason::NotAService,
            client: network(maps, src),
            destination: network(maps, dst.ip()),
            entry: None,
            backends: Vec::new(),
            masquerade: false,
        };
        let at = |port: u16, protocol| {
            let key = ServiceKey {
                address: A::from_ip(dst.ip())?,
                port: port.into(),
                protocol,
            };
            maps.services.get(&key)
        };
        let Some(entry) = at(dst.port(), protocol) else {
            if reach
                .destination
                .is_some_and(|(_, network)| network == Network::SERVICES)
            {
                reach.entry = at(0, Protocol::ANY).copied();
                reach.reason = match reach.entry {
                    Some(_) => Reason::OtherPort,
                    None => Reason::Unallocated,
                };
            }
            return Ok(reach);
        };
        reach.entry = Some(*entry);
        if entry.way == Way::LOAD_BALANCER && entry.filtered && !in_source_ranges(maps, entry.service, src) {
            reach.reason = Reason::SourceRange;
            return Ok(reach);
        }
        let (set, masquerade) = match reach.client {
            Some((_, Network::PODS)) => (entry.inside, entry.masquerade_pods),
            Some((_, Network::NODE)) => (entry.inside, entry.masquerade_node),
            _ => (entry.outside, entry.masquerade_outside),
        };
        if set.slot_count == 0 {
            reach.reason = match set.empty {
                Empty::REJECT => Reason::NoEndpoint,
                Empty::DROP => Reason::NoLocalEndpoint,
            };
            return Ok(reach);
        }
        reach.reason = Reason::Translated;
        reach.masquerade = masquerade;
        reach.backends = backends(contents, maps, &set)?;
        Ok(reach)
    }
}

/// Where the endpoints of a set listen, sorted.
fn backends<A: MapAddress>(
    contents: &MapContents,
    maps: &FamilyMaps<A>,
    set: &EndpointSet,
) -> Result<Vec<SocketAddr>, Inconsistent> {
    let region = contents.slots.get(&set.slot_offset);
    let region = region.filter(|region| region.len() == set.slot_count as usize);
    let in_slots: BTreeSet<u32> = region.iter().flat_map(|region| region.iter()).copied().collect();
    let in_backends: BTreeSet<u32> = maps.set(set.number).map(|(number, _)| number).collect();
    if in_slots != in_backends {
        return Err(Inconsistent {
            set: set.number,
            in_slots,
            in_backends,
        });
    }
    let listening = maps.set(set.number);
    let mut backends: Vec<_> = listening
        .map(|(_, backend)| backend.address.socket(backend.port))
        .collect();
    backends.sort_unstable();
    Ok(backends)
}

/// The longest prefix that holds the address, and what belongs to it.
fn network<A: MapAddress>(maps: &FamilyMaps<A>, address: IpAddr) -> Option<(IpNet, Network)> {
    let networks = maps.networks.iter();
    let holding = networks.filter_map(|(prefix, what)| Some((prefix.network::<A>()?, *what)));
    let holding = holding.filter(|(net, _)| net.contains(&address));
    holding.max_by_key(|(net, _)| net.prefix_len())
}

fn in_source_ranges<A: MapAddress>(maps: &FamilyMaps<A>, service: u32, client: IpAddr) -> bool {
    let mut ranges = maps.source_ranges.keys();
    ranges.any(
        |Prefix {
             data: SourceRange {
                 service: of,
                 client: data,
             },
             length,
         }| {
            let prefix = Prefix {
                data: *data,
                length: length - u32::BITS, // the Service's number
            };
            *of == service && prefix.network::<A>().is_some_and(|net| net.contains(&client))
        },
    )
}
