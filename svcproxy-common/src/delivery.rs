//! Where a translated packet goes: the program sends it itself, or leaves it to the kernel's routing.
//!
//! Sending is not only faster. The kernel's IPv4 routing drops what comes in with a source address of this node
//! (`fib_validate_source`, net/ipv4/fib_frontend.c), and that is what masquerading, and a nodePort's reply, write.

use network_types::eth::EthHdr;

use crate::{
    Packet, Reason,
    abi::{Address, Delivery, FlowEntry},
    flow::Live,
    wire::{Field, HardwareAddresses},
};

/// Where a packet goes. Two numbers in every case: where an enum's variants leave some bytes undefined LLVM copies them
/// all the same, and the verifier refuses to read what was never written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The way to the next hop; [`Delivery::RESET`] where the packet is not to be sent but answered.
    pub delivery: Delivery,
    /// The interface; 0 for `ROUTING` and `RESET`.
    pub ifindex: u32,
}

impl Verdict {
    /// On to the kernel's routing.
    pub const ROUTE: Self = Self {
        delivery: Delivery::ROUTING,
        ifindex: 0,
    };

    /// Whether the program sends the packet itself.
    #[inline(always)]
    pub fn sends(self) -> bool {
        self.delivery != Delivery::ROUTING
    }
}

/// What a program does with the packets of `entry` whose IP header is at `offset`. Sends when it can; one that has been
/// `attended` to in a way that shows the kernel that its neighbour is in use.
#[inline(always)]
pub fn verdict<A: Address, P: Packet>(
    packet: &P,
    entry: &Live<FlowEntry<A>>,
    offset: usize,
    attended: bool,
) -> Verdict {
    let delivery = match entry.delivery() {
        Delivery::LINK if attended => Delivery::NEIGHBOUR,
        delivery => delivery,
    };
    // A tag is the kernel's to take off; a reset goes back with it.
    if P::ROUTED || offset != EthHdr::LEN || (packet.tagged() && delivery != Delivery::RESET) {
        return Verdict::ROUTE;
    }
    Verdict {
        delivery,
        ifindex: entry.ifindex(),
    }
}

/// Writes the hardware addresses of a packet that is sent.
#[inline(always)]
pub fn address<A: Address, P: Packet>(packet: &P, entry: &Live<FlowEntry<A>>) -> Result<(), Reason> {
    let addresses: &Field<HardwareAddresses, 12> = packet.at(0).ok_or(Reason::Truncated)?;
    addresses.set(entry.hardware_addresses());
    Ok(())
}
