//! TCP, UDP and SCTP: their ports, and how their checksums follow a translation.

use core::mem::offset_of;

use network_types::ip::IpProto;

use crate::{
    ChecksumChange, Packet, Reason,
    abi::Protocol,
    family::{Datagram, Piece},
    flow::{TcpFlags, Translation},
    wire::{self, Be16, Be32, Ports, Sctp, Tcp, Udp},
};

/// The transport header of a packet.
pub struct Transport {
    /// Its ports, as numbers; 0 in a later fragment, which has no such header.
    pub ports: (u16, u16),
    /// What it says about the connection.
    pub flags: TcpFlags,
    /// Its length, bytes.
    pub header_len: u32,
    /// Where it is, bytes from the start of the frame; 0 when there is none.
    offset: usize,
    /// Where its checksum is.
    checksum: usize,
}

/// The protocol with this IP protocol number, if a ServicePort can have it, else [`Protocol::ANY`].
#[inline(always)]
pub const fn protocol(number: u8) -> Protocol {
    const TCP: u8 = IpProto::Tcp as u8;
    const UDP: u8 = IpProto::Udp as u8;
    const SCTP: u8 = IpProto::Sctp as u8;
    match number {
        // SAFETY: these are their numbers. Of a match with a case for each LLVM makes a path for each, up to the lookup.
        TCP | UDP | SCTP => unsafe { core::mem::transmute::<u32, Protocol>(number as u32) },
        _ => Protocol::ANY,
    }
}

impl Transport {
    /// That of a later fragment. Not an `Option` around it all: what is nothing in there is a register that was never
    /// written, which LLVM copies all the same and the verifier refuses.
    const NONE: Self = Self {
        ports: (0, 0),
        flags: TcpFlags::NONE,
        header_len: 0,
        offset: 0,
        checksum: 0,
    };

    /// Reads the header that `datagram` says is there, if any. It must lie within the IP packet, not in the frame's
    /// padding.
    #[inline(always)]
    pub fn read<P: Packet>(packet: &P, datagram: &Datagram, protocol: Protocol) -> Result<Self, Reason> {
        if datagram.piece == Piece::Later {
            return Ok(Self::NONE);
        }
        let offset = datagram.transport;
        // One view of the ports dominates all branches: of several views at one offset LLVM makes one bounds check and
        // new pointers, which the verifier does not know to be checked.
        let ports: &Ports = packet.at(offset).ok_or(Reason::Truncated)?;
        let (flags, header_len, least, checksum) = match protocol {
            Protocol::UDP => {
                let _: &Udp = packet.at(offset).ok_or(Reason::Truncated)?;
                let header_len = size_of::<Udp>();
                (TcpFlags::NONE, header_len as u32, header_len, offset_of!(Udp, checksum))
            }
            Protocol::SCTP if !P::PLAIN => {
                let sctp: &Sctp = packet.at(offset).ok_or(Reason::Truncated)?;
                let (flags, least) = (TcpFlags::of_chunk(sctp.chunk.get()), size_of::<Sctp>());
                (flags, offset_of!(Sctp, chunk) as u32, least, offset_of!(Sctp, checksum))
            }
            _ => {
                let tcp: &Tcp = packet.at(offset).ok_or(Reason::Truncated)?;
                let header_len = u32::from(tcp.data_offset.get() >> 4) * 4;
                let flags = TcpFlags(tcp.flags.get());
                (flags, header_len, size_of::<Tcp>(), offset_of!(Tcp, checksum))
            }
        };
        if (datagram.length as usize) < least {
            return Err(Reason::Malformed);
        }
        Ok(Self {
            ports: (u16::from_be(ports.src.get()), u16::from_be(ports.dst.get())),
            flags: packet.opaque(flags),
            header_len,
            offset: packet.settled(offset),
            checksum: packet.settled(offset + checksum),
        })
    }

    /// Writes the ports of `entry` and makes the checksum follow; `length` is that of the header and what follows it. The
    /// last change made to a packet: on tc every view ends here.
    #[inline(always)]
    pub fn rewrite<A, P: Packet>(
        &self,
        packet: &P,
        entry: &impl Translation<A>,
        protocol: Protocol,
        length: u32,
    ) -> Result<(), Reason> {
        if self.offset == 0 {
            return Ok(());
        }
        let ports: &Ports = packet.at(self.offset).ok_or(Reason::RewriteFailed)?;
        let before = (ports.src.get(), ports.dst.get());
        ports.src.set(entry.src_port().to_be());
        ports.dst.set(entry.dst_port().to_be());
        if !P::PLAIN && protocol == Protocol::SCTP {
            let difference = wire::pair(before.0 ^ ports.src.get(), before.1 ^ ports.dst.get());
            let rest = length.wrapping_sub(size_of::<Ports>() as u32);
            return fix_sctp(packet, self.checksum as u32, difference, rest);
        }
        let field: &Be16 = packet.at(self.checksum & 0x3fff).ok_or(Reason::RewriteFailed)?;
        let change = ChecksumChange {
            address_delta: entry.address_delta(),
            port_delta: entry.port_delta(),
            udp: protocol == Protocol::UDP,
        };
        // UDP without a checksum keeps none (RFC 768, RFC 6935).
        if change.udp && field.get() == 0 {
            packet.add_to_sum(change.port_delta);
            return Ok(());
        }
        match packet.fix_checksum(field, self.checksum, change) {
            true => Ok(()),
            false => Err(Reason::RewriteFailed),
        }
    }
}

/// Makes SCTP's checksum at `offset` follow a change of ports by XOR with `difference`, with `rest` bytes behind them.
/// Addresses do not count in it.
#[inline(never)]
fn fix_sctp<P: Packet>(packet: &P, offset: u32, difference: u32, rest: u32) -> Result<(), Reason> {
    if difference == 0 {
        return Ok(());
    }
    let field: &Be32 = packet.at(offset as usize & 0x3fff).ok_or(Reason::RewriteFailed)?;
    field.set((u32::from_le(field.get()) ^ packet.crc32c_delta(difference, rest)).to_le());
    Ok(())
}
