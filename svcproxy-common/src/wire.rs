//! Headers as they lie in a packet: the code that reads and writes packet memory.
//!
//! A header here is a *view*: a reference into the packet, handed out by [`Packet::at`](crate::Packet::at) after a
//! bounds check. Its fields are cells, because the packet is shared with the program that looks at it; `get` and
//! `set` compile to one load or store. network-types' headers are byte arrays whose getters compile to a load per
//! byte on BPF; its protocol numbers and header lengths are what we use of it.

use core::cell::UnsafeCell;

use crate::abi::{V4Addr, V6Addr};

/// A type that may be laid over packet bytes.
///
/// # Safety
///
/// Implementors have alignment 1, no padding, and every bit pattern is a valid value.
pub unsafe trait Wire {}

/// A field of `N` bytes that holds a `T`.
#[repr(transparent)]
pub struct Field<T: Copy, const N: usize> {
    bytes: UnsafeCell<[u8; N]>,
    value: core::marker::PhantomData<T>,
}

impl<T: Copy, const N: usize> Field<T, N> {
    const SIZE_MATCHES: () = assert!(size_of::<T>() == N);

    /// The value, as stored (network byte order).
    #[inline(always)]
    pub fn get(&self) -> T {
        let () = Self::SIZE_MATCHES;
        let pointer = self.bytes.get().cast::<T>();
        // SAFETY: the cell is `N` readable bytes of packet, `T` has that size and, as only this module makes fields,
        // is an integer or an address: any bits are valid. BPF loads any alignment from packet memory
        // (CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS), and an aligned load is the one that LLVM does not split.
        unsafe {
            if cfg!(target_arch = "bpf") {
                pointer.read()
            } else {
                pointer.read_unaligned()
            }
        }
    }

    /// Stores a value in network byte order.
    #[inline(always)]
    pub fn set(&self, value: T) {
        let () = Self::SIZE_MATCHES;
        let pointer = self.bytes.get().cast::<T>();
        // SAFETY: as in `get`; the cell makes writing through a shared reference sound, and one packet is in the
        // hands of one program at a time.
        unsafe {
            if !cfg!(target_arch = "bpf") {
                pointer.write_unaligned(value);
            } else if N == 16 {
                // By words: a `memcpy` wants its address in a register, and IPv6 has two.
                let [first, second]: [u64; 2] = core::mem::transmute_copy(&value);
                pointer.cast::<u64>().write(first);
                pointer.cast::<u64>().add(1).write(second);
            } else {
                pointer.write(value);
            }
        }
    }
}

/// One byte.
pub type Byte = Field<u8, 1>;
/// Two bytes in network order; use `u16::from_be` for the number.
pub type Be16 = Field<u16, 2>;
/// Four bytes in network order.
pub type Be32 = Field<u32, 4>;
/// A hardware address.
pub type Mac = Field<[u8; 6], 6>;

/// Both hardware addresses of a frame, the destination's first, in words as stored.
pub type HardwareAddresses = [u32; 3];

/// Two halves, one after the other in memory, as one word.
#[inline(always)]
pub const fn pair(first: u16, second: u16) -> u32 {
    (first.to_le() as u32 | (second.to_le() as u32) << 16).to_le()
}

/// Ethernet II.
#[repr(C)]
pub struct Ethernet {
    /// Destination.
    pub dst: Mac,
    /// Source.
    pub src: Mac,
    /// EtherType.
    pub ethertype: Be16,
}

/// An IEEE 802.1Q tag: what follows an EtherType of 0x8100 or 0x88a8.
#[repr(C)]
pub struct Vlan {
    /// Priority and VLAN id.
    pub control: Be16,
    /// EtherType of what follows.
    pub ethertype: Be16,
}

/// IPv4 without options (RFC 791).
#[repr(C)]
pub struct Ipv4 {
    /// Version (4) and header length in 32-bit words.
    pub version_ihl: Byte,
    /// DSCP and ECN.
    pub tos: Byte,
    /// Length of header and payload, bytes.
    pub total_length: Be16,
    /// Identification.
    pub identification: Be16,
    /// Flags and fragment offset.
    pub fragment: Be16,
    /// Time to live.
    pub ttl: Byte,
    /// Transport protocol.
    pub protocol: Byte,
    /// Header checksum.
    pub checksum: Be16,
    /// Source address.
    pub src: Field<V4Addr, 4>,
    /// Destination address.
    pub dst: Field<V4Addr, 4>,
}

/// The fixed IPv6 header (RFC 8200).
#[repr(C)]
pub struct Ipv6 {
    /// Version, traffic class (high half).
    pub version_class: Be16,
    /// Flow label (low half).
    pub flow_label: Be16,
    /// Length of what follows this header, bytes.
    pub payload_length: Be16,
    /// Transport protocol or extension header.
    pub next_header: Byte,
    /// Hop limit.
    pub hop_limit: Byte,
    /// Source address.
    pub src: Field<V6Addr, 16>,
    /// Destination address.
    pub dst: Field<V6Addr, 16>,
}

/// What every IPv6 extension header begins with but the fragment header, whose second byte is reserved (RFC 8200,
/// section 4).
#[repr(C)]
pub struct Extension {
    /// Type of the header that follows.
    pub next_header: Byte,
    /// Length beyond the first 8 bytes, in units of 8 bytes.
    pub length: Byte,
}

/// The IPv6 fragment header.
#[repr(C)]
pub struct FragmentHeader {
    /// Type of the header that follows.
    pub next_header: Byte,
    /// Always 0.
    pub reserved: Byte,
    /// Offset in units of 8 bytes (upper 13 bits), and "more fragments" (lowest bit).
    pub offset: Be16,
    /// Identification.
    pub identification: Be32,
}

/// What ICMP and ICMPv6 errors begin with; the packet they are about follows (RFC 792, RFC 4443).
#[repr(C)]
pub struct Icmp {
    /// Type.
    pub kind: Byte,
    /// Code.
    pub code: Byte,
    /// Checksum; of ICMPv6 also over a pseudo-header.
    pub checksum: Be16,
    /// MTU and the like.
    pub rest: Be32,
}

/// What TCP, UDP and SCTP begin with.
#[repr(C)]
pub struct Ports {
    /// Source port.
    pub src: Be16,
    /// Destination port.
    pub dst: Be16,
}

/// TCP without options (RFC 9293).
#[repr(C)]
pub struct Tcp {
    /// Ports.
    pub ports: Ports,
    /// Sequence number.
    pub sequence: Be32,
    /// Acknowledgment number.
    pub acknowledgment: Be32,
    /// Header length in 32-bit words, in the upper four bits.
    pub data_offset: Byte,
    /// CWR to FIN.
    pub flags: Byte,
    /// Window.
    pub window: Be16,
    /// Checksum over pseudo-header, header and payload.
    pub checksum: Be16,
    /// Urgent pointer.
    pub urgent: Be16,
}

/// UDP (RFC 768).
#[repr(C)]
pub struct Udp {
    /// Ports.
    pub ports: Ports,
    /// Length of header and payload, bytes.
    pub length: Be16,
    /// Checksum over pseudo-header, header and payload; 0 when the sender computed none.
    pub checksum: Be16,
}

/// SCTP with the type of its first chunk (RFC 9260).
#[repr(C)]
pub struct Sctp {
    /// Ports.
    pub ports: Ports,
    /// Verification tag.
    pub tag: Be32,
    /// CRC-32c over the packet with this field 0; least significant byte first.
    pub checksum: Be32,
    /// Type of the first chunk.
    pub chunk: Byte,
}

macro_rules! wire {
    ($($type:ty = $size:expr),+ $(,)?) => { $(
        const _: () = assert!(align_of::<$type>() == 1 && size_of::<$type>() == $size);
        // SAFETY: `repr(C)` of fields that are bytes; alignment and size (hence no padding) are asserted above.
        unsafe impl Wire for $type {}
    )+ };
}

// A field alone is a view too.
// SAFETY: bytes.
unsafe impl<T: Copy, const N: usize> Wire for Field<T, N> {}

wire! {
    Ethernet = 14, Vlan = 4, Ipv4 = 20, Ipv6 = 40, Extension = 2, FragmentHeader = 8, Icmp = 8, Ports = 4, Tcp = 20,
    Udp = 8, Sctp = 13
}
