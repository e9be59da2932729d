//! What can be wrong with the node's network, each with the way out.

use thiserror::Error;

/// An error of the node's network.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// The kernel's view of the network could not be read.
    #[error("could not read {what} from netlink: {reason}")]
    Netlink {
        /// Interfaces, addresses, routes or neighbours.
        what: &'static str,
        /// What netlink said.
        reason: String,
    },
    /// `--iface` names nothing.
    #[error("no interface {name:?} in this network namespace; `ip link` lists them")]
    NoInterface {
        /// Its name.
        name: String,
    },
}

impl NetworkError {
    /// Turns an error of netlink into ours.
    pub(super) fn netlink<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Self {
        move |error| Self::Netlink {
            what,
            reason: error.to_string(),
        }
    }
}
