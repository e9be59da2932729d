//! The two things both sides of svcproxy must agree on.
//!
//! * [`abi`]: the keys and values of every map, byte for byte.
//! * the decision code, generic over where packets ([`Packet`]) and tables ([`Tables`]) live, so that the same text
//!   is compiled into the kernel programs and into host tests. A packet goes through it in this order:
//!   [`process`] (every packet) → [`connection`] (once per connection and once a second) → [`choice`] (which
//!   endpoint).

#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod checksum;
pub mod choice;
pub mod connection;
pub mod family;
pub mod flow;
pub mod maglev;
mod packet;
pub mod process;
pub mod reason;
mod tables;
pub mod wire;

pub use packet::{ChecksumChange, Packet};
pub use process::{Verdict, process};
pub use reason::Reason;
pub use tables::{Table, Tables};
