//! What happens to every packet. In comes a frame, and is sent on its way by a [`Verdict`], or out goes the [`Reason`] to
//! leave it alone.
//!
//! One lookup in the flow table says how to rewrite it. Everything that is not needed for every packet (new
//! connections, state changes, once-a-second chores) is in [`connection::attend`]. It must never write to a packet
//! before all that can fail has been done.

use network_types::eth::{EthHdr, EtherType};

use crate::{
    Packet, Reason, Table, Tables, Verdict,
    abi::{Delivery, FlowKey, FlowState, Protocol, V4Addr, V6Addr},
    connection::Attended,
    delivery,
    family::{Datagram, Family, Piece, V4, V6},
    flow::Translation,
    fragment, icmp, known, policy,
    transport::{self, Transport},
    wire::{Ethernet, Vlan},
};

/// Translates a frame that belongs to a connection through a Service.
#[inline(always)]
pub fn process<P, T>(packet: &P, tables: &T) -> Result<P::Sent, Reason>
where
    P: Packet,
    T: Tables<V4Addr> + Tables<V6Addr>,
{
    /// EtherTypes as stored.
    const IPV4: u16 = EtherType::Ipv4 as u16;
    const IPV6: u16 = EtherType::Ipv6 as u16;
    const VLAN: u16 = EtherType::Ieee8021q as u16;
    const OUTER_VLAN: u16 = EtherType::Ieee8021ad as u16;

    let ethernet: &Ethernet = packet.at(0).ok_or(Reason::Truncated)?;
    let (mut ethertype, mut offset) = (ethernet.ethertype.get(), EthHdr::LEN);
    // One tag or two; the second is never an outer one.
    if ethertype == VLAN || ethertype == OUTER_VLAN {
        if P::PLAIN {
            return Err(Reason::NotPlain);
        }
        let tag: &Vlan = packet.at(offset).ok_or(Reason::Truncated)?;
        (ethertype, offset) = (tag.ethertype.get(), offset + size_of::<Vlan>());
        if ethertype == VLAN {
            let tag: &Vlan = packet.at(offset).ok_or(Reason::Truncated)?;
            (ethertype, offset) = (tag.ethertype.get(), offset + size_of::<Vlan>());
        }
    }
    let offset = packet.settled(offset);
    match ethertype {
        IPV4 => translate::<V4, P, T>(packet, tables, offset),
        IPV6 => translate::<V6, P, T>(packet, tables, offset),
        _ => Err(Reason::NotIp),
    }
}

/// Translates the IP packet at `offset`.
#[inline(always)]
fn translate<F, P, T>(packet: &P, tables: &T, offset: usize) -> Result<P::Sent, Reason>
where
    F: Family,
    P: Packet,
    T: Tables<F::Address>,
{
    let header: &F::Header = packet.at(offset).ok_or(Reason::Truncated)?;
    let datagram = F::read(packet, header, offset)?.settled(packet);
    let protocol = transport::protocol(datagram.protocol);
    if P::PLAIN && protocol != Protocol::TCP && protocol != Protocol::UDP {
        return Err(Reason::NotPlain);
    }
    if protocol == Protocol::ANY {
        return other::<F, P, T>(packet, tables, header, offset, &datagram);
    }
    let mut key = FlowKey {
        src: F::src(header),
        dst: F::dst(header),
        src_port: 0,
        dst_port: 0,
        protocol,
    };
    let transport = match Transport::read(packet, &datagram, protocol) {
        Ok(transport) => transport,
        Err(reason) if P::ROUTED || !policy::may_refuse(tables, &key.dst) => return Err(reason),
        Err(_) if P::PLAIN => return Err(Reason::NotPlain),
        Err(reason) => return Err(policy::stray(tables, &key.dst, reason)),
    };
    key.set_ports(transport.ports);
    match datagram.piece {
        Piece::Whole => {}
        Piece::First => fragment::remember(tables, &key, datagram.identification),
        Piece::Later if fragment::follow(tables, &mut key, datagram.identification) => {}
        Piece::Later => return Err(Reason::Fragment),
    }
    let flags = transport.flags;
    key.protocol = packet.opaque(key.protocol);

    let known = tables.known().ok_or(Reason::NotAService)?;
    if !known::may_matter(known, &key.dst)
        && !known::may_matter(known, &key.src)
        && !policy::may_refuse(tables, &key.dst)
    {
        return Err(Reason::NotAService);
    }
    if !packet.is_for_this_node() {
        return Err(Reason::OtherHost);
    }

    // A packet that may change the connection is attended to whatever its entry says.
    let kept = match flags.opens() && !tables.may_hold(&key) {
        true => None,
        false => tables.flow(Table::Flows, &key),
    };
    let now = packet.now(); // the processor goes on to here while the lookup waits for memory
    let settled = kept.filter(|entry| !flags.control() && entry.last_seen() == now);
    let attended = settled.is_none();
    let entry = match settled {
        Some(entry) => entry,
        None => match packet.attend(tables, &key, flags, kept.is_some()) {
            found @ (Attended::Flow | Attended::Pending) => {
                let entry = match found {
                    Attended::Pending => tables.flow(Table::Pending, &key),
                    _ => kept,
                };
                // It has been moved meanwhile, here or by another processor.
                match entry {
                    Some(entry) => entry,
                    None => tables.flow(Table::Flows, &key).ok_or(Reason::FlowTableFull)?,
                }
            }
            found @ (Attended::Unknown | Attended::Ended) if !P::ROUTED => {
                match tables.choose(&key, now) {
                    Ok(()) => packet.open(tables, &key, now, found == Attended::Ended)?,
                    Err(Reason::NotAService) => return Err(policy::refusal(tables, &key, Reason::NotAService)),
                    Err(reason) => return Err(reason),
                }
                tables.opened().ok_or(Reason::FlowTableFull)?
            }
            Attended::Unknown | Attended::Ended | Attended::Stray => return Err(Reason::NotAService),
        },
    };

    if !P::PLAIN
        && !P::ROUTED
        && datagram.piece == Piece::First
        && fragment::overtaken(tables, &key, datagram.identification)
    {
        return Err(Reason::Reordered);
    }

    let headers = (datagram.transport - offset) as u32;
    let mut verdict = delivery::verdict(packet, entry, offset, attended);
    if verdict.delivery == Delivery::RESET {
        entry.set_state(FlowState::CLOSING); // a SYN begins anew
        return Err(Reason::EndpointUnreachable);
    }
    if verdict.sends() {
        if !packet.can_send(verdict.delivery) {
            return Err(Reason::NotPlain);
        }
        if !fits(packet, headers, datagram.length, &transport, entry.mtu()) {
            if !F::may_fragment(header) {
                packet.note_mtu(entry.mtu());
                return Err(Reason::TooBig);
            }
            verdict = Verdict::ROUTE;
        } else if F::hops(header) <= 1 {
            return Err(Reason::TtlExpired);
        } else {
            delivery::address(packet, entry)?;
        }
    }
    F::set_src(header, entry.src());
    F::set_dst(header, entry.dst());
    packet.add_to_sum(F::follow(header, entry.address_delta(), verdict.sends()));
    transport.rewrite(packet, entry, key.protocol, datagram.length)?;
    Ok(packet.send(verdict))
}

/// Whether the packet, or each it will be cut into, is within the next hop's MTU. `headers` are those of IP, `length` is what follows them.
#[inline(always)]
fn fits<P: Packet>(packet: &P, headers: u32, length: u32, transport: &Transport, mtu: u16) -> bool {
    let length = match packet.segment_payload() {
        0 => length,
        payload => transport.header_len + payload,
    };
    headers + length <= u32::from(mtu)
}

/// A packet of a protocol that no ServicePort can have: an ICMP error may be about a connection of ours, and an address
/// of the service range answers nothing else.
#[inline(always)]
fn other<F, P, T>(
    packet: &P,
    tables: &T,
    header: &F::Header,
    offset: usize,
    datagram: &Datagram,
) -> Result<P::Sent, Reason>
where
    F: Family,
    P: Packet,
    T: Tables<F::Address>,
{
    let mut reason = Reason::OtherProtocol;
    if datagram.protocol == F::ICMP && datagram.piece != Piece::Later {
        let (offset, transport) = (offset as u32, datagram.transport as u32);
        match icmp::translate::<F, P, T>(packet, tables, offset, transport, datagram.length) {
            Ok(verdict) => return Ok(packet.send(verdict)),
            Err(error) => reason = error,
        }
    }
    match P::ROUTED {
        true => Err(reason),
        false => {
            let key = FlowKey {
                src: F::src(header),
                dst: F::dst(header),
                src_port: 0,
                dst_port: 0,
                protocol: Protocol::ANY,
            };
            Err(policy::refusal(tables, &key, reason))
        }
    }
}
