//! Where a translated packet goes: the program sends it itself, or leaves it to the kernel's routing.
//!
//! Sending is not only faster. The kernel's IPv4 routing drops what comes in with a source address of this node
//! (`fib_validate_source`, net/ipv4/fib_frontend.c), and that is what masquerading, and a nodePort's reply, write.

use network_types::eth::EthHdr;

use crate::{
    Packet, Reason,
    abi::{Address, Delivery, FlowEntry},
    flow::Live,
    wire::Ethernet,
};

/// Where a translated packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// On to the kernel's routing.
    Route,
    /// To the next hop, without the kernel's routing.
    Send {
        /// The way there; never [`Delivery::ROUTING`].
        delivery: Delivery,
        /// The interface.
        ifindex: u32,
    },
    /// Nowhere, untouched: it may not be fragmented, and its sender must hear what its way takes.
    TooBig {
        /// The largest IP packet, bytes.
        mtu: u16,
    },
}

/// What a program does with the packets of `entry` whose IP header is at `offset`. Sends when it can.
#[inline(always)]
pub fn verdict<A: Address, P: Packet>(packet: &P, entry: &Live<FlowEntry<A>>, offset: usize) -> Verdict {
    let delivery = entry.delivery();
    // A tag is the kernel's to take off.
    if P::ROUTED || delivery == Delivery::ROUTING || offset != EthHdr::LEN || packet.tagged() {
        return Verdict::Route;
    }
    Verdict::Send {
        delivery,
        ifindex: entry.ifindex(),
    }
}

/// Writes the hardware addresses of a packet that is sent.
#[inline(always)]
pub fn address<A: Address, P: Packet>(packet: &P, entry: &Live<FlowEntry<A>>) -> Result<(), Reason> {
    let ethernet: &Ethernet = packet.at(0).ok_or(Reason::Truncated)?;
    ethernet.dst.set(entry.dst_mac());
    ethernet.src.set(entry.src_mac());
    Ok(())
}
