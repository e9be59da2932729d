//! The two things both sides of svcproxy must agree on.
//!
//! * [`abi`]: the keys and values of every map, byte for byte.
//! * the decision code: what happens to a packet, generic over where packets and tables live, so that the same
//!   text is compiled into the kernel programs and into host tests.

#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod maglev;
