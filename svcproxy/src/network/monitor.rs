//! The node's network by netlink: read as a whole, and watched for changes.

use std::{net::IpAddr, time::Duration};

use futures_channel::mpsc::UnboundedReceiver;
use futures_util::{StreamExt as _, TryStreamExt as _};
use netlink_packet_core::NetlinkMessage;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{NeighbourFlags, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteMessage},
};
use rtnetlink::{
    IpVersion, MulticastGroup, new_connection, new_multicast_connection,
    sys::{AsyncSocket as _, SocketAddr},
};
use tokio::time::{Instant, sleep_until};

use super::{
    Address, Link, Neighbours, NetworkError, Route, Snapshot,
    snapshot::{is_by_destination, is_for_all},
};
use crate::model::Family;

/// How long a change may draw others after it: an interface comes with addresses and routes, one message each.
const SETTLING: Duration = Duration::from_millis(5);

/// The next change is told no sooner than after so many times the processor time that following the last one took, less
/// [`SPARED`]: where following takes long, it takes about one part in so many of a processor. Cheap changes are followed at
/// once, and a storm of them may take more.
const REST: u32 = 20;

/// See [`REST`].
const SPARED: Duration = Duration::from_millis(100);

/// Bursts are told so far apart at least.
const APART: Duration = Duration::from_millis(20);

/// When what did not work out is looked at again.
const RETRY: Duration = Duration::from_secs(2);

/// Tables whose changes count.
const GROUPS: [MulticastGroup; 7] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// A view of the node's network that notices changes.
#[derive(Debug)]
pub struct Monitor {
    handle: rtnetlink::Handle,
    changes: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    /// When the change that is settling is to be told.
    due: Option<Instant>,
    /// When to tell of a change although there is none.
    retry: Option<Instant>,
    /// No change is told before.
    rest: Instant,
}

impl Monitor {
    /// Opens netlink. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the kernel gives no netlink socket.
    pub fn open() -> Result<Self, NetworkError> {
        let failed = || NetworkError::netlink("changes");
        let (mut watching, _, changes) = new_multicast_connection(&GROUPS).map_err(failed())?;
        // A burst that overflows the socket is as good as its last message: each is answered by reading all anew. The
        // alternative is an error, on which the connection ends.
        let socket = watching.socket_mut().socket_mut();
        socket.set_no_enobufs(true).map_err(failed())?;
        tokio::spawn(watching);
        // Of its own, so that no burst can push out an answer.
        let (asking, handle, _) = new_connection().map_err(failed())?;
        tokio::spawn(asking);
        Ok(Self {
            handle,
            changes,
            due: None,
            retry: None,
            rest: Instant::now(),
        })
    }

    /// The network as it is now.
    ///
    /// # Errors
    ///
    /// When netlink fails.
    pub async fn snapshot(&self) -> Result<Snapshot, NetworkError> {
        let links = self.handle.link().get().execute().map_ok(Link::from).try_collect();
        let mut links: Vec<Link> = links.await.map_err(NetworkError::netlink("interfaces"))?;
        links.sort_by_key(|link| link.index);
        let addresses = self.handle.address().get().execute();
        let addresses = addresses.try_filter_map(async |message| Ok(Address::of(&message)));
        let addresses = addresses.try_collect().await;
        let (mut routes, mut destination_routed) = (Vec::new(), Vec::new());
        for (family, number) in [(Family::V4, AddressFamily::Inet), (Family::V6, AddressFamily::Inet6)] {
            let (found, by_destination) = self.routes(number).await?;
            routes.extend(found);
            if by_destination && self.has_plain_rules(family).await {
                destination_routed.push(family);
            }
        }
        Ok(Snapshot {
            links,
            addresses: addresses.map_err(NetworkError::netlink("addresses"))?,
            routes,
            destination_routed,
        })
    }

    /// The routes of a family, and whether those of all tables ask for no more than the destination.
    async fn routes(&self, family: AddressFamily) -> Result<(Vec<Route>, bool), NetworkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        let mut messages = std::pin::pin!(self.handle.route().get(message).execute());
        let (mut routes, mut by_destination) = (Vec::new(), true);
        while let Some(message) = messages.next().await {
            let message = message.map_err(NetworkError::netlink("routes"))?;
            routes.extend(Route::of(&message));
            by_destination &= is_by_destination(&message);
        }
        Ok((routes, by_destination))
    }

    /// Whether no rule of a family chooses between packets. A kernel that tells of no rules may have some.
    async fn has_plain_rules(&self, family: Family) -> bool {
        let version = match family {
            Family::V4 => IpVersion::V4,
            Family::V6 => IpVersion::V6,
        };
        let rules = self.handle.rule().get(version).execute();
        let rules: Result<Vec<_>, _> = rules.try_collect().await;
        rules.is_ok_and(|rules| rules.iter().all(is_for_all))
    }

    /// The neighbours as they are now.
    ///
    /// # Errors
    ///
    /// When netlink fails.
    pub async fn neighbours(&self) -> Result<Neighbours, NetworkError> {
        let messages: Vec<_> = self
            .handle
            .neighbours()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(NetworkError::netlink("neighbours"))?;
        Ok(messages.iter().collect())
    }

    /// Has the kernel ask a neighbour whether it is still there. Before long [`neighbours`](Self::neighbours) tells.
    ///
    /// # Errors
    ///
    /// When netlink fails.
    pub async fn ask(&self, interface: u32, ip: IpAddr) -> Result<(), NetworkError> {
        let request = self.handle.neighbours().add(interface, ip).flags(NeighbourFlags::Use);
        match request.state(NeighbourState::None).replace().execute().await {
            // The interface, or the address on it, has just gone.
            Ok(()) | Err(rtnetlink::Error::NetlinkError(_)) => Ok(()),
            Err(error) => Err(NetworkError::netlink("a neighbour")(error)),
        }
    }

    /// Whether the kernel has any way to an address: tables other than the main one, which a [`Snapshot`] leaves out,
    /// and rules that choose between them included.
    ///
    /// # Errors
    ///
    /// When netlink fails.
    pub async fn has_way_to(&self, ip: IpAddr) -> Result<bool, NetworkError> {
        let mut message = RouteMessage::default();
        let (family, destination, length) = match ip {
            IpAddr::V4(ip) => (AddressFamily::Inet, RouteAddress::Inet(ip), 32),
            IpAddr::V6(ip) => (AddressFamily::Inet6, RouteAddress::Inet6(ip), 128),
        };
        message.header.address_family = family;
        message.header.destination_prefix_length = length;
        message.attributes.push(RouteAttribute::Destination(destination));
        let mut answer = std::pin::pin!(self.handle.route().get(message).execute());
        match answer.next().await {
            Some(Ok(_)) => Ok(true),
            // Unreachable, prohibited or a blackhole.
            None | Some(Err(rtnetlink::Error::NetlinkError(_))) => Ok(false),
            Some(Err(error)) => Err(NetworkError::netlink("a route")(error)),
        }
    }

    /// Keeps [`changed`](Self::changed) from returning too soon after a change that took so much processor time to follow.
    pub fn rest(&mut self, cost: Duration) {
        self.rest = Instant::now() + (cost * REST).saturating_sub(SPARED).max(APART);
    }

    /// Lets [`changed`](Self::changed) return soon, whether anything changes or not.
    pub fn look_again(&mut self) {
        self.retry = Some(Instant::now() + RETRY);
    }

    /// Waits until something has changed and settled. Nothing is lost when the wait is given up and taken up again.
    pub async fn changed(&mut self) {
        let due = match self.due {
            Some(due) => due,
            None => {
                let retry = self.retry;
                tokio::select! {
                    Some(_) = self.changes.next() => {}
                    () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {}
                    // netlink is closed: nothing will be heard any more
                    else => std::future::pending().await,
                }
                *self.due.insert(self.rest.max(Instant::now() + SETTLING))
            }
        };
        sleep_until(due).await;
        // What has queued up meanwhile is answered by the same reading.
        while self.changes.try_recv().is_ok() {}
        (self.due, self.retry) = (None, None);
    }
}
