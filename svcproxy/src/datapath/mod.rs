//! The kernel side as the control plane handles it: programs and maps are loaded or adopted ([`Datapath::load`]),
//! plans are applied ([`Maps::apply`]), programs are attached ([`links`]), forgotten connections are swept
//! ([`sweep`]), flows to endpoints that are gone removed ([`Maps::forget_stale`]), connections to endpoints out of reach reset
//! ([`Maps::shift`]), frames are tried out ([`trial`]),
//! connections are rehearsed ([`rehearsal`]), the node's own sockets are led to endpoints ([`sockets`]). aya's types do
//! not leave this module.

mod clock;
mod clsact;
mod connections;
mod error;
pub mod features;
mod filter;
mod grace;
mod interfaces;
mod known;
pub mod links;
mod maps;
mod object;
pub mod pins;
pub mod preflight;
pub mod rehearsal;
mod shared;
pub mod sockets;
mod stale;
pub mod sweep;
pub mod trial;
mod unreachable;

pub use self::{
    error::DatapathError,
    maps::{Family, MapKeys, Maps, entries},
    object::{Datapath, Sizes},
    unreachable::Shift,
};
