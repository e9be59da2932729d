//! TCP, UDP and SCTP: their ports, and how their checksums follow a translation.

use core::mem::offset_of;

use network_types::ip::IpProto;

use crate::{
    ChecksumChange, Packet, Reason,
    abi::Protocol,
    crc32c,
    family::Datagram,
    flow::TcpFlags,
    wire::{Be16, Be32, Ports, Sctp, Tcp, Udp},
};

/// The transport header of a packet.
pub struct Transport<'a> {
    /// Its ports.
    pub ports: &'a Ports,
    /// What it says about the connection.
    pub flags: TcpFlags,
    /// Its length, bytes.
    pub header_len: u32,
    /// Where its checksum is, bytes from the start of the frame.
    checksum: usize,
}

/// The protocol with this IP protocol number, if a ServicePort can have it, else [`Protocol::ANY`].
#[inline(always)]
pub const fn protocol(number: u8) -> Protocol {
    const TCP: u8 = IpProto::Tcp as u8;
    const UDP: u8 = IpProto::Udp as u8;
    const SCTP: u8 = IpProto::Sctp as u8;
    match number {
        TCP => Protocol::TCP,
        UDP => Protocol::UDP,
        SCTP => Protocol::SCTP,
        _ => Protocol::ANY,
    }
}

impl<'a> Transport<'a> {
    /// Reads the header that `datagram` says is there. It must lie within the IP packet, not in the frame's padding.
    #[inline(always)]
    pub fn read<A, P: Packet>(packet: &'a P, datagram: &Datagram<A>, protocol: Protocol) -> Result<Self, Reason> {
        let offset = datagram.transport;
        // One view of the ports dominates all branches: of several views at one offset LLVM makes one bounds check and
        // new pointers, which the verifier does not know to be checked.
        let ports: &Ports = packet.at(offset).ok_or(Reason::Truncated)?;
        let (transport, least) = match protocol {
            Protocol::UDP => {
                let _: &Udp = packet.at(offset).ok_or(Reason::Truncated)?;
                let (flags, header_len) = (TcpFlags::NONE, size_of::<Udp>() as u32);
                let checksum = offset + offset_of!(Udp, checksum);
                (
                    Self {
                        ports,
                        flags,
                        header_len,
                        checksum,
                    },
                    size_of::<Udp>(),
                )
            }
            Protocol::SCTP => {
                let sctp: &Sctp = packet.at(offset).ok_or(Reason::Truncated)?;
                let (flags, header_len) = (TcpFlags::of_chunk(sctp.chunk.get()), 12);
                let checksum = offset + offset_of!(Sctp, checksum);
                (
                    Self {
                        ports,
                        flags,
                        header_len,
                        checksum,
                    },
                    size_of::<Sctp>(),
                )
            }
            _ => {
                let tcp: &Tcp = packet.at(offset).ok_or(Reason::Truncated)?;
                let (flags, header_len) = (TcpFlags(tcp.flags.get()), u32::from(tcp.data_offset.get() >> 4) * 4);
                let checksum = offset + offset_of!(Tcp, checksum);
                (
                    Self {
                        ports,
                        flags,
                        header_len,
                        checksum,
                    },
                    size_of::<Tcp>(),
                )
            }
        };
        if (datagram.length as usize) < least {
            Err(Reason::Malformed)
        } else {
            Ok(transport)
        }
    }

    /// Writes new ports and makes the checksum follow; `length` is that of the header and what follows it. The last
    /// change made to a packet: on tc every view ends here.
    #[inline(always)]
    pub fn rewrite<P: Packet>(
        &self,
        packet: &P,
        (src, dst): (u16, u16),
        protocol: Protocol,
        length: u32,
        change: ChecksumChange,
    ) -> Result<(), Reason> {
        let difference = difference(self.ports.src.get() ^ src.to_be(), self.ports.dst.get() ^ dst.to_be());
        self.ports.src.set(src.to_be());
        self.ports.dst.set(dst.to_be());
        if protocol == Protocol::SCTP {
            let rest = length.wrapping_sub(size_of::<Ports>() as u32);
            return fix_sctp(packet, self.checksum as u32, difference, rest);
        }
        let field: &Be16 = packet.at(self.checksum & 0x3fff).ok_or(Reason::RewriteFailed)?;
        // UDP over IPv4 without a checksum keeps none (RFC 768).
        if change.udp && field.get() == 0 || packet.fix_checksum(field, self.checksum, change) {
            Ok(())
        } else {
            Err(Reason::RewriteFailed)
        }
    }
}

/// Two words, one after the other in memory, as one.
#[inline(always)]
const fn difference(src: u16, dst: u16) -> u32 {
    (src.to_le() as u32 | (dst.to_le() as u32) << 16).to_le()
}

/// Makes SCTP's checksum at `offset` follow a change of ports by XOR with `difference`, with `rest` bytes behind them.
/// Addresses do not count in it.
#[inline(never)]
fn fix_sctp<P: Packet>(packet: &P, offset: u32, difference: u32, rest: u32) -> Result<(), Reason> {
    if difference == 0 {
        return Ok(());
    }
    let field: &Be32 = packet.at(offset as usize & 0x3fff).ok_or(Reason::RewriteFailed)?;
    field.set((u32::from_le(field.get()) ^ crc32c::delta(difference, rest)).to_le());
    Ok(())
}
