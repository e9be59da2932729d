//! What happens to every packet. In comes a frame, out goes a [`Verdict`] or the [`Reason`] to leave it alone.
//!
//! One lookup in the flow table says how to rewrite it. Everything that is not needed for every packet (new
//! connections, state changes, once-a-second chores) is in [`connection::attend`]. It must never write to a packet
//! before all that can fail has been done.

use network_types::ip::IpProto;

use crate::{
    ChecksumChange, Packet, Reason, Table, Tables,
    abi::{Address as _, FlowKey, Protocol, V4Addr, V6Addr},
    connection::{self, Attended},
    family::{Family, L2_LEN, V4, V6},
    flow::{TcpFlags, Translation},
    wire::{Be16, Ethernet, Ports, Tcp, Udp},
};

/// Where a translated packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// On to the kernel's routing.
    Route,
    /// Out of an interface, or (tc) into the namespace behind it, without the kernel's routing.
    Send {
        /// The interface.
        ifindex: u32,
    },
}

/// Translates a frame that belongs to a connection through a Service.
#[inline(always)]
pub fn process<P, T>(packet: &P, tables: &T) -> Result<Verdict, Reason>
where
    P: Packet,
    T: Tables<V4Addr> + Tables<V6Addr>,
{
    let ethernet: &Ethernet = packet.at(0).ok_or(Reason::Truncated)?;
    match ethernet.ethertype.get() {
        V4::ETHERTYPE => translate::<V4, P, T>(packet, tables),
        V6::ETHERTYPE => translate::<V6, P, T>(packet, tables),
        _ => Err(Reason::NotIp),
    }
}

#[inline(always)]
fn translate<F, P, T>(packet: &P, tables: &T) -> Result<Verdict, Reason>
where
    F: Family,
    P: Packet,
    T: Tables<F::Address>,
{
    let header: &F::Header = packet.at(L2_LEN).ok_or(Reason::Truncated)?;
    let datagram = F::read(header, packet.frame_len())?;
    let transport = Transport::read(packet, datagram.transport, datagram.protocol, datagram.length)?;
    let key = FlowKey {
        src: datagram.src,
        dst: datagram.dst,
        src_port: u16::from_be(transport.ports.src.get()),
        dst_port: u16::from_be(transport.ports.dst.get()),
        protocol: transport.protocol,
    };

    let now = packet.now();
    let entry = match tables.flow(Table::Flows, &key) {
        Some(entry) if entry.last_seen() == now && !transport.flags.control() => entry,
        _ => {
            let table = match connection::attend(packet, tables, &key, transport.flags, now) {
                Attended::Known(table) => table,
                Attended::Unknown if !P::ROUTED => {
                    connection::open(packet, tables, &key, now)?;
                    Table::Pending
                }
                Attended::Unknown | Attended::Stray => return Err(Reason::NotAService),
            };
            match tables.flow(table, &key) {
                Some(entry) => entry,
                // Another processor has moved the connection meanwhile.
                None => tables.flow(Table::Flows, &key).ok_or(Reason::FlowTableFull)?,
            }
        }
    };

    let send = !P::ROUTED && entry.delivery() == P::DELIVERY && fits(packet, &datagram, &transport, entry.mtu());
    if send && datagram.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }

    let (address_delta, port_delta) = (entry.address_delta(), entry.port_delta());
    let verdict = if send {
        Verdict::Send {
            ifindex: entry.ifindex(),
        }
    } else {
        Verdict::Route
    };
    if send {
        let ethernet: &Ethernet = packet.at(0).ok_or(Reason::Truncated)?;
        ethernet.dst.set(entry.dst_mac());
        ethernet.src.set(entry.src_mac());
    }
    F::rewrite(header, entry.src(), entry.dst(), address_delta, send);
    transport.ports.src.set(entry.src_port().to_be());
    transport.ports.dst.set(entry.dst_port().to_be());
    let udp = transport.protocol == Protocol::UDP;
    if udp && transport.checksum.get() == 0 {
        return Ok(verdict); // UDP over IPv4 without a checksum keeps none (RFC 768)
    }
    let change = ChecksumChange {
        address_delta,
        port_delta,
        udp,
        ipv6: F::Address::AF == V6Addr::AF,
    };
    if packet.fix_checksum(transport.checksum, transport.checksum_offset, change) {
        Ok(verdict)
    } else {
        Err(Reason::RewriteFailed)
    }
}

/// Whether the packet, or each it will be cut into, is within the next hop's MTU. If not, the kernel's routing
/// fragments it or tells the sender.
#[inline(always)]
fn fits<A, P: Packet>(packet: &P, datagram: &crate::family::Datagram<A>, transport: &Transport<'_>, mtu: u16) -> bool {
    let length = match packet.segment_payload() {
        0 => datagram.length,
        payload => (datagram.transport - L2_LEN) as u32 + transport.header_len + payload,
    };
    length <= u32::from(mtu)
}

/// The transport header of a packet.
struct Transport<'a> {
    protocol: Protocol,
    ports: &'a Ports,
    checksum: &'a Be16,
    checksum_offset: usize,
    flags: TcpFlags,
    header_len: u32,
}

impl<'a> Transport<'a> {
    /// Reads it at `offset`. It must lie within the IP packet of `length` bytes, not in the frame's padding.
    #[inline(always)]
    fn read<P: Packet>(packet: &'a P, offset: usize, protocol: u8, length: u32) -> Result<Self, Reason> {
        const TCP: u8 = IpProto::Tcp as u8;
        const UDP: u8 = IpProto::Udp as u8;

        let within = |header_len: usize| length as usize >= offset - L2_LEN + header_len;
        // One view of the ports dominates both branches: of two views at one offset LLVM makes one bounds check and
        // a second pointer, which the verifier does not know to be checked.
        let ports: &Ports = packet.at(offset).ok_or(Reason::Truncated)?;
        match protocol {
            TCP => {
                let tcp: &Tcp = packet.at(offset).ok_or(Reason::Truncated)?;
                if !within(size_of::<Tcp>()) {
                    return Err(Reason::Malformed);
                }
                Ok(Self {
                    protocol: Protocol::TCP,
                    ports,
                    checksum: &tcp.checksum,
                    checksum_offset: offset + core::mem::offset_of!(Tcp, checksum),
                    flags: TcpFlags(tcp.flags.get()),
                    header_len: u32::from(tcp.data_offset.get() >> 4) * 4,
                })
            }
            UDP => {
                let udp: &Udp = packet.at(offset).ok_or(Reason::Truncated)?;
                if !within(size_of::<Udp>()) {
                    return Err(Reason::Malformed);
                }
                Ok(Self {
                    protocol: Protocol::UDP,
                    ports,
                    checksum: &udp.checksum,
                    checksum_offset: offset + core::mem::offset_of!(Udp, checksum),
                    flags: TcpFlags::NONE,
                    header_len: size_of::<Udp>() as u32,
                })
            }
            _ => Err(Reason::OtherProtocol),
        }
    }
}
