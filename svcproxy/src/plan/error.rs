//! Why there is no plan, in words that say what to change.

use std::net::SocketAddr;

use thiserror::Error;

use crate::model::{Protocol, ServiceName};

/// Why a model cannot be put into the maps.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// `backend_slots` is too small.
    ///
    /// A changed set needs its new slots beside its old ones until it has swung over, so this may happen although
    /// all wanted slots alone would fit.
    #[error(
        "the endpoint tables need {missing} more slots than the {limit} of --backend-slots have free beside the \
         tables in use: set --backend-slots {suggestion}"
    )]
    OutOfSlots {
        /// Slots that found no place.
        missing: u64,
        /// [`Limits::backend_slots`](super::Limits::backend_slots).
        limit: u32,
        /// A size that suffices.
        suggestion: u64,
    },
    /// More endpoints than the longest table serves.
    #[error("port {port}/{protocol:?} of Service {service} has {endpoints} endpoints; a port may have at most 393216")]
    TooManyEndpoints {
        /// The Service.
        service: ServiceName,
        /// The ServicePort's `port`.
        port: u16,
        /// The ServicePort's `protocol`.
        protocol: Protocol,
        /// How many it has.
        endpoints: usize,
    },
    /// One address, port and protocol for two ServicePorts.
    #[error(
        "{address}/{protocol:?} is claimed by Service {first} and by Service {second}: \
         give one of them another address or port"
    )]
    Conflict {
        /// The address and port.
        address: SocketAddr,
        /// The protocol.
        protocol: Protocol,
        /// The Service that comes first in the model.
        first: Box<ServiceName>,
        /// The other one; the same Service when it lists a port twice.
        second: Box<ServiceName>,
    },
}
