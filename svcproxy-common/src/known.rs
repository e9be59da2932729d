//! Which addresses can matter at all. Most packets of a busy node belong to no Service, and should not pay for the
//! lookups that find that out.
//!
//! One bit map says of the hash of an address whether it is that of a Service, of an endpoint or of a connection that is
//! remembered, and of the hash of its network whether all that is in there is the Services'. Addresses may share a bit: a
//! set bit means nothing, a clear one that there is nothing to look up.

use crate::abi::Address;

/// Bits in the map, 128 KiB. With 80 000 addresses 7 of 100 others pass for one of them, and pay for the lookups.
pub const BITS: u32 = 1 << 20;
/// The same in words.
pub const WORDS: u32 = BITS / u64::BITS;

/// A bit of the map: index of its word, and the mask in there.
pub type Bit = (u32, u64);

/// The bit of an address.
#[inline(always)]
pub fn address<A: Address>(address: &A) -> Bit {
    bit(address.bits())
}

/// The bit of the network an address is in: its first 16 bits (IPv4) or 64 (IPv6).
#[inline(always)]
pub fn network<A: Address>(address: &A) -> Bit {
    // No IPv4 address has so many bits, few IPv6 ones.
    bit(address.network() | 1 << 63)
}

#[inline(always)]
fn bit(word: u64) -> Bit {
    // Fibonacci hashing: the upper bits of a product with 2⁶⁴ divided by the golden ratio.
    let hash = (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) as u32;
    (hash >> 6, 1 << (hash & 63))
}
