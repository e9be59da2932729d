//! IPv6 extension headers (RFC 8200, section 4): what lies between the fixed header and TCP, UDP or SCTP.

use crate::{
    Packet,
    family::Piece,
    wire::{Extension, FragmentHeader},
};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// No next header: what a chain ends with that cannot be followed. No Service has this protocol.
const NONE: u8 = 59;

/// More than any sender uses: RFC 8200 wants each header once, destination options twice.
const MOST: u32 = 6;

/// Where a chain of extension headers ends. Eight bytes: one register on its way back from a call.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chain {
    /// The transport protocol.
    pub protocol: u8,
    /// Which piece of a datagram the packet is.
    pub piece: Piece,
    /// Length of the chain, bytes.
    pub length: u16,
    /// Identification of the datagram, for fragments; as stored.
    pub identification: u32,
}

/// Whether a next header is one that is passed over.
#[inline(always)]
pub const fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION
    )
}

/// Follows the chain that begins at `offset` with a header of type `first`.
#[inline(never)]
pub fn walk<P: Packet>(packet: &P, offset: u32, first: u8) -> Chain {
    let mut chain = Chain {
        protocol: first,
        piece: Piece::Whole,
        length: 0,
        identification: 0,
    };
    let broken = Chain {
        protocol: NONE,
        piece: Piece::Whole,
        length: 0,
        identification: 0,
    };
    for _ in 0..MOST {
        // Bounds for the verifier; six headers of 2 kB are not longer.
        chain.length = packet.opaque(chain.length) & 0x3fff;
        let at = (offset + u32::from(chain.length)) as usize & 0x3fff;
        match chain.protocol {
            FRAGMENT => {
                let Some(header) = packet.at::<FragmentHeader>(at) else {
                    return broken;
                };
                let offset = u16::from_be(header.offset.get());
                chain.piece = Piece::new(offset >> 3, offset & 1 == 1);
                chain.identification = header.identification.get();
                chain.protocol = header.next_header.get();
                chain.length += 8;
                if chain.piece == Piece::Later {
                    return chain; // what follows is payload
                }
            }
            HOP_BY_HOP | ROUTING | AUTHENTICATION | DESTINATION => {
                let Some(header) = packet.at::<Extension>(at) else {
                    return broken;
                };
                let units = u16::from(header.length.get());
                // The authentication header counts in units of 4 bytes, without the first 8 (RFC 4302).
                chain.length += if chain.protocol == AUTHENTICATION {
                    (units + 2) * 4
                } else {
                    (units + 1) * 8
                };
                chain.protocol = header.next_header.get();
            }
            _ => return chain,
        }
    }
    if is_extension(chain.protocol) { broken } else { chain }
}
