//! Which endpoints are out of reach, so that their connections have nobody to answer them any more.
//!
//! In comes, time and again, what the network and the manifests say ([`Evidence`]), out goes the set of addresses that
//! are out of reach, each with the reason. Pure; the time is told.
//!
//! To reset a connection that would have lived is worse than to let a dead one hang a little longer. So whatever may
//! pass, a route that a routing daemon is about to set again or a neighbour that misses a few questions, counts only
//! when it has lasted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    time::{Duration, Instant},
};

use ipnet::IpNet;

use super::{Neighbour, Neighbours, Route, Snapshot, routing::Routing};

/// How long what may pass must last: longer than the 3 s in which the kernel asks for a neighbour before it gives up
/// (`mcast_solicit`, `retrans_time_ms`), and from one look to the next.
const LASTING: Duration = Duration::from_secs(4);

/// How long an address is remembered after it was last an endpoint: as long as an idle TCP connection is.
const REMEMBERED: Duration = Duration::from_secs(86_400);

/// Why an endpoint is out of reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutOfReach {
    /// This Pod had the address, and has ended.
    PodEnded(String),
    /// The interface that its route led through is gone.
    InterfaceGone(String),
    /// Its route is gone, and at most a default route covers the address.
    RouteGone {
        /// Where the route led to.
        destination: IpNet,
        /// The interface it led through.
        interface: String,
    },
    /// No route leads there.
    NoRoute,
    /// It is on the link of this interface, and does not answer ARP or neighbour discovery.
    Silent(String),
}

impl fmt::Display for OutOfReach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PodEnded(pod) => write!(f, "its pod {pod} has ended"),
            Self::InterfaceGone(interface) => write!(f, "its interface {interface} is gone"),
            Self::RouteGone { destination, interface } => {
                write!(f, "its route {destination} dev {interface} is gone")
            }
            Self::NoRoute => f.write_str("no route leads to it"),
            Self::Silent(interface) => write!(f, "it does not answer on the link of {interface}"),
        }
    }
}

/// What there is to know at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// Interfaces, addresses and routes.
    pub network: &'a Snapshot,
    /// Who answers on the links.
    pub neighbours: &'a Neighbours,
    /// Addresses without a route in the main table that the kernel has a way to all the same: by a policy rule, or to
    /// itself.
    pub led_elsewhere: &'a BTreeSet<IpAddr>,
    /// The addresses of endpoints that serve.
    pub endpoints: &'a BTreeSet<IpAddr>,
    /// Addresses that only Pods have that have ended, with a Pod's name.
    pub ended: &'a BTreeMap<IpAddr, String>,
    /// When that is.
    pub now: Instant,
}

/// The addresses that are or have been endpoints, and which of them are out of reach.
#[derive(Debug, Default)]
pub struct Reach {
    known: BTreeMap<IpAddr, Known>,
}

/// What is remembered of an address.
#[derive(Debug, Default)]
struct Known {
    /// The route that last led there, unless it was a default route.
    way: Option<Way>,
    /// The Pod that had the address and has ended.
    ended: Option<String>,
    /// What will count if it lasts, and since when.
    doubt: Option<(Instant, OutOfReach)>,
    /// Why it is out of reach.
    out: Option<OutOfReach>,
    /// Since when it is no endpoint any more.
    left: Option<Instant>,
}

/// A route, with the name of its interface: that is gone when it is to be told.
#[derive(Debug)]
struct Way {
    destination: IpNet,
    index: u32,
    interface: String,
}

/// What the evidence says of an address by itself.
enum Finding {
    Reached,
    /// It is on a link, and nobody has asked it lately.
    Unasked,
    /// Counts if it lasts.
    Doubtful(OutOfReach),
    Lost(OutOfReach),
}

impl Reach {
    /// Adds addresses that are endpoints, or that connections of an earlier run may lead to.
    pub fn learn(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        for ip in addresses {
            self.known.entry(ip).or_default();
        }
    }

    /// The addresses that no route of a network leads to.
    pub fn without_route(&self, network: &Snapshot) -> Vec<IpAddr> {
        let routing = Routing::of(network);
        let lost = |ip: &&IpAddr| !routing.is_own(**ip) && routing.routes(**ip).next().is_none();
        self.known.keys().filter(lost).copied().collect()
    }

    /// The neighbours, by ifindex, that are endpoints on a link and have not answered lately. Somebody must ask them: what XDP
    /// or the other end of a veth is sent passes the kernel's neighbour tables by.
    pub fn stale(&self, network: &Snapshot, neighbours: &Neighbours) -> Vec<(u32, IpAddr)> {
        let routing = Routing::of(network);
        let neighbour = |ip: IpAddr| {
            let on_link = routing.routes(ip).filter(|route| route.gateway.is_none());
            on_link.map(move |route| (route.interface, ip))
        };
        let stale = |(interface, ip): &(u32, IpAddr)| neighbours.get(*interface, *ip) == Some(Neighbour::Stale);
        self.known().flat_map(neighbour).filter(stale).collect()
    }

    /// Takes the evidence up.
    pub fn update(&mut self, evidence: &Evidence<'_>) {
        let routing = Routing::of(evidence.network);
        self.learn(evidence.endpoints.iter().copied());
        for (ip, known) in &mut self.known {
            known.left = match evidence.endpoints.contains(ip) {
                true => None,
                false => known.left.or(Some(evidence.now)),
            };
            let finding = known.find(*ip, evidence, &routing);
            known.conclude(finding, evidence.now);
        }
        let forgotten = |left| evidence.now.duration_since(left) >= REMEMBERED;
        self.known.retain(|_, known| !known.left.is_some_and(forgotten));
    }

    /// Every address that is known, out of reach or not.
    pub fn known(&self) -> impl Iterator<Item = IpAddr> {
        self.known.keys().copied()
    }

    /// The addresses that are out of reach, and why.
    pub fn out(&self) -> impl Iterator<Item = (IpAddr, &OutOfReach)> {
        let known = self.known.iter();
        known.filter_map(|(ip, known)| Some((*ip, known.out.as_ref()?)))
    }
}

impl Known {
    fn find(&mut self, ip: IpAddr, evidence: &Evidence<'_>, routing: &Routing<'_>) -> Finding {
        // A Pod that has ended stays so when its manifest is removed. Another one may get its address.
        if evidence.endpoints.contains(&ip) {
            self.ended = None;
        } else if let Some(pod) = evidence.ended.get(&ip) {
            self.ended = Some(pod.clone());
        }
        if let Some(pod) = &self.ended {
            return Finding::Lost(OutOfReach::PodEnded(pod.clone()));
        }
        if routing.is_own(ip) {
            return Finding::Reached;
        }
        let routes: Vec<&Route> = routing.routes(ip).collect();
        match (routes.first(), &self.way) {
            (Some(route), _) if route.destination.prefix_len() > 0 => {
                self.way = evidence.network.link(route.interface).map(|link| Way {
                    destination: route.destination,
                    index: link.index,
                    interface: link.name.clone(),
                });
            }
            (_, Some(way)) => {
                let interface = way.interface.clone();
                return match evidence.network.link(way.index) {
                    None => Finding::Lost(OutOfReach::InterfaceGone(interface)),
                    Some(_) => Finding::Doubtful(OutOfReach::RouteGone {
                        destination: way.destination,
                        interface,
                    }),
                };
            }
            (Some(_), None) => {}
            (None, None) if evidence.led_elsewhere.contains(&ip) => {}
            (None, None) => return Finding::Doubtful(OutOfReach::NoRoute),
        }
        on_link(ip, &routes, evidence)
    }

    fn conclude(&mut self, finding: Finding, now: Instant) {
        match finding {
            Finding::Reached => (self.doubt, self.out) = (None, None),
            // Nobody asks a silent neighbour whose connections are reset, and the kernel forgets it.
            Finding::Unasked => {
                self.doubt.take_if(|(_, why)| !why.is_silence());
                self.out.take_if(|why| !why.is_silence());
            }
            Finding::Lost(why) => (self.doubt, self.out) = (None, Some(why)),
            Finding::Doubtful(why) => {
                let (since, _) = self.doubt.get_or_insert((now, why.clone()));
                if now.duration_since(*since) >= LASTING {
                    self.out.get_or_insert(why);
                }
            }
        }
    }
}

impl OutOfReach {
    fn is_silence(&self) -> bool {
        matches!(self, Self::Silent(_))
    }
}

/// Whether an address answers on the link, where its routes lead to one. A router's silence is not the endpoint's: it
/// may well be reached another way before long.
fn on_link(ip: IpAddr, routes: &[&Route], evidence: &Evidence<'_>) -> Finding {
    let heard = |route: &&Route| match route.gateway {
        Some(_) => Some(true),
        None => {
            let neighbour = evidence.neighbours.get(route.interface, ip);
            neighbour.map(|neighbour| neighbour != Neighbour::Silent)
        }
    };
    let heard: Vec<Option<bool>> = routes.iter().map(heard).collect();
    match routes.first() {
        Some(route) if heard.iter().all(|heard| *heard == Some(false)) => {
            let interface = evidence.network.link(route.interface);
            let name = interface.map(|link| link.name.clone()).unwrap_or_default();
            Finding::Doubtful(OutOfReach::Silent(name))
        }
        Some(_) if !heard.contains(&Some(true)) => Finding::Unasked,
        _ => Finding::Reached,
    }
}
