//! Which routes lead to an address, of all that a snapshot has.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{Route, Snapshot};

/// Routes by prefix length and destination: the answer for one of many endpoints must not take a look at every route.
pub(super) struct Routing<'a> {
    own: BTreeSet<IpAddr>,
    by_length: BTreeMap<u8, HashMap<IpNet, Vec<&'a Route>>>,
}

impl<'a> Routing<'a> {
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let mut by_length: BTreeMap<u8, HashMap<IpNet, Vec<&Route>>> = BTreeMap::new();
        for route in &snapshot.routes {
            let of_length = by_length.entry(route.destination.prefix_len()).or_default();
            of_length.entry(route.destination.trunc()).or_default().push(route);
        }
        Self {
            own: snapshot.addresses.iter().map(|own| own.ip).collect(),
            by_length,
        }
    }

    /// Whether an address is the node's own.
    pub(super) fn is_own(&self, ip: IpAddr) -> bool {
        self.own.contains(&ip)
    }

    /// The best routes to an address, several where there are several next hops; none for the node's own addresses.
    pub(super) fn routes(&self, ip: IpAddr) -> impl Iterator<Item = &'a Route> {
        let longest = self.by_length.iter().rev().find_map(|(length, routes)| {
            let network = IpNet::new(ip, *length).ok()?.trunc();
            routes.get(&network)
        });
        let routes = longest.filter(|_| !self.is_own(ip)).map_or(&[][..], Vec::as_slice);
        let best = routes.iter().map(|route| route.metric).min();
        let routes = routes.iter().copied();
        routes.filter(move |route| Some(route.metric) == best)
    }
}
