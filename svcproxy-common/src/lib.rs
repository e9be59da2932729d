//! The two things both sides of svcproxy must agree on.
//!
//! * [`abi`]: the keys and values of every map, byte for byte.
//! * the decision code, generic over where packets ([`Packet`]) and tables ([`Tables`]) live, so that the same text
//!   is compiled into the kernel programs and into host tests. A packet goes through it in this order:
//!   [`process`] (every packet) → [`connection`] (once per connection and once a second) → [`choice`] (which
//!   endpoint). A process on the node itself needs no packet for that: [`socket`] → [`choice`].

#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod abi;
pub mod checksum;
pub mod choice;
pub mod connection;
pub mod crc32c;
pub mod delivery;
pub mod extension;
pub mod family;
pub mod filter;
pub mod flow;
pub mod fragment;
pub mod icmp;
pub mod known;
pub mod maglev;
mod packet;
pub mod policy;
pub mod ports;
pub mod process;
pub mod reason;
pub mod socket;
mod tables;
pub mod transport;
pub mod verifier;
pub mod wire;

pub use delivery::Verdict;
pub use packet::{ChecksumChange, Packet, Route};
pub use process::process;
pub use reason::{Fate, Reason};
pub use tables::{Opening, SocketTuple, Table, Tables};
