//! Which addresses can matter at all. Most packets of a busy node belong to no Service, and should not pay for the
//! lookups that find that out.
//!
//! One bit map says of the hash of an address whether it is that of a Service, of an endpoint or of a connection that is
//! remembered. Addresses may share a bit: a set bit means nothing, a clear one that there is nothing to look up.

use crate::abi::Address;

/// Bits in the map, 128 KiB. With 80 000 addresses 7 of 100 others pass for one of them, and pay for the lookups.
pub const BITS: u32 = 1 << 20;
/// The same in words.
pub const WORDS: u32 = BITS / u64::BITS;

/// A bit of the map: index of its word, and the mask in there.
pub type Bit = (u32, u64);

/// The bit of an address.
#[inline(always)]
pub fn bit<A: Address>(address: &A) -> Bit {
    let hash = hash(address) / (u32::MAX / BITS + 1);
    (hash >> 6, 1 << (hash & 63))
}

/// A hash of an address, best in its upper bits.
#[inline(always)]
pub fn hash<A: Address>(address: &A) -> u32 {
    // Fibonacci hashing: the upper half of a product with 2⁶⁴ divided by the golden ratio.
    (address.bits().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}
