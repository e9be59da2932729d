//! What map contents say of a new connection, in the terms that the rules are told in.

use std::net::{IpAddr, SocketAddr};

use svcproxy::{
    model::Protocol,
    plan::{MapContents, Reach},
};
use svcproxy_common::Reason;

/// Why, to which endpoints, and whether masqueraded.
pub(crate) fn outcome(
    contents: &MapContents,
    src: IpAddr,
    dst: SocketAddr,
    protocol: Protocol,
) -> (Reason, Vec<SocketAddr>, bool) {
    let reach = Reach::read(contents, src, dst, protocol).unwrap_or_else(|error| panic!("{error}"));
    (reach.reason, reach.backends, reach.masquerade)
}
