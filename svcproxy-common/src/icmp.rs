//! ICMP and ICMPv6 errors about packets that were translated: without them path MTU discovery fails through a Service.
//!
//! An error quotes the packet it is about, as the router saw it: with the addresses of the other side. The connection it
//! belongs to is that of the quoted packet turned round, and its entry says how to rewrite both: the error travels in
//! that entry's direction, the quoted packet in the opposite one.

use network_types::ip::Ipv4Hdr;

use crate::{
    Packet, Reason, Table, Tables, Verdict,
    abi::{Address, Delivery, FlowKey, Protocol, V6Addr},
    checksum, delivery,
    family::Family,
    flow::Translation,
    transport,
    wire::{Icmp, Ports},
};

/// Translates the ICMP error at `transport`, `length` bytes long, within the IP packet at `offset`. When it is none, or
/// about no connection of ours, it is left alone.
#[inline(never)]
pub fn translate<F, P, T>(packet: &P, tables: &T, offset: u32, transport: u32, length: u32) -> Result<Verdict, Reason>
where
    F: Family,
    P: Packet,
    T: Tables<F::Address>,
{
    // Bounds that the verifier forgets in a call.
    let (offset, transport) = (offset as usize & 0x3fff, transport as usize & 0x3fff);
    let icmp: &Icmp = packet.at(transport).ok_or(Reason::Truncated)?;
    if !F::is_error(icmp.kind.get()) {
        return Err(Reason::OtherProtocol);
    }
    let quoted = transport + size_of::<Icmp>();
    let inner: &F::Header = packet.at(quoted).ok_or(Reason::Truncated)?;
    let (protocol, ports) = F::quoted(inner).ok_or(Reason::Malformed)?;
    let protocol = transport::protocol(protocol);
    if protocol == Protocol::ANY {
        return Err(Reason::OtherProtocol);
    }
    // Within the error, not in the frame's padding.
    if size_of::<Icmp>() + ports + size_of::<Ports>() > length as usize {
        return Err(Reason::Malformed);
    }
    let ports: &Ports = packet.at(quoted + ports).ok_or(Reason::Truncated)?;
    let (src, dst) = F::addresses(inner);
    let (src_port, dst_port) = (u16::from_be(ports.src.get()), u16::from_be(ports.dst.get()));
    let key = FlowKey {
        src: dst,
        dst: src,
        src_port: dst_port,
        dst_port: src_port,
        protocol,
    };
    let entry = match tables.flow(Table::Flows, &key) {
        Some(entry) => entry,
        None => tables.flow(Table::Pending, &key).ok_or(Reason::NotAService)?,
    };

    let outer: &F::Header = packet.at(offset).ok_or(Reason::Truncated)?;
    let mut verdict = delivery::verdict(packet, entry, offset, false);
    if F::hops(outer) <= 1 || verdict.delivery == Delivery::RESET {
        verdict = Verdict::ROUTE; // nobody is told that an error has ended here
    }
    if verdict.sends() {
        delivery::address(packet, entry)?;
    }

    // The quoted packet: back to what its sender sent. Turned round it is a packet of the entry, whose sums do not care.
    let (router, receiver) = F::addresses(outer);
    let (address_delta, port_delta) = (entry.address_delta(), entry.port_delta());
    F::set_src(inner, entry.dst());
    F::set_dst(inner, entry.src());
    F::follow(inner, address_delta, false);
    ports.src.set(entry.dst_port().to_be());
    ports.dst.set(entry.src_port().to_be());

    // The error itself: to the one who sent that packet, from the address it knows if its peer is the sender.
    let sender = if router == key.src { entry.src() } else { router };
    let outer_delta = checksum::delta(router.sum() + receiver.sum(), sender.sum() + entry.dst().sum());
    F::set_src(outer, sender);
    F::set_dst(outer, entry.dst());
    let mut changed = F::follow(outer, outer_delta, verdict.sends());

    // An IPv4 header with its own checksum sums up to the same before and after. IPv6 addresses, the quoted ones and
    // those of the pseudo-header, count, and this checksum makes up for them.
    let mut delta = port_delta;
    if F::Address::AF == V6Addr::AF {
        delta = checksum::combine(delta, checksum::combine(address_delta, outer_delta));
        changed = checksum::combine(changed, checksum::inverse(outer_delta));
    }
    packet.add_to_sum(changed);
    icmp.checksum.set(checksum::update(icmp.checksum.get(), delta.into()));
    Ok(verdict)
}

/// Length of the IPv4 header in a quoted packet.
pub(crate) const fn quoted_v4(version_ihl: u8) -> Option<usize> {
    let header_len = (version_ihl & 0xf) as usize * 4;
    if version_ihl >> 4 == 4 && header_len >= Ipv4Hdr::LEN {
        Some(header_len)
    } else {
        None
    }
}
