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
    MulticastGroup, new_connection, new_multicast_connection,
    sys::{AsyncSocket as _, SocketAddr},
};
use tokio::time::{Instant, sleep_until};

use super::{Address, Link, Neighbours, NetworkError, Route, Snapshot};

/// How long a change may draw others after it: an interface comes with addresses and routes, one message each.
const SETTLING: Duration = Duration::from_millis(100);

/// When what did not work out is looked at again.
const RETRY: Duration = Duration::from_secs(2);

/// Tables whose changes count.
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
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
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            routes.extend(self.routes(family).await?);
        }
        Ok(Snapshot {
            links,
            addresses: addresses.map_err(NetworkError::netlink("addresses"))?,
            routes,
        })
    }

    async fn routes(&self, family: AddressFamily) -> Result<Vec<Route>, NetworkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        let mut messages = std::pin::pin!(self.handle.route().get(message).execute());
        let mut routes = Vec::new();
        while let Some(message) = messages.next().await {
            routes.extend(Route::of(&message.map_err(NetworkError::netlink("routes"))?));
        }
        Ok(routes)
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
                *self.due.insert(Instant::now() + SETTLING)
            }
        };
        sleep_until(due).await;
        // What has queued up meanwhile is answered by the same reading.
        while self.changes.try_recv().is_ok() {}
        (self.due, self.retry) = (None, None);
    }
}
