//! SCTP's checksum (CRC-32c, RFC 9260 appendix A) after a change of ports, without reading the packet again.
//!
//! A CRC is linear: the CRC of two packets of one length differs by the CRC of their difference. That difference is
//! four bytes followed by zeros, and a zero byte multiplies a remainder by x⁸; so `n` of them multiply it by x⁸ⁿ, which
//! takes one multiplication for each hexadecimal digit of `n`.
//!
//! There are no branches, and no arithmetic in their place that the verifier sees through: it would follow both sides of
//! each (Linux 6.18 does so for `-(bit & 1)`), a hundred times over.

/// The generator polynomial, lowest power in the highest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The polynomial 1.
const ONE: u32 = 1 << 31;

/// x⁸ to the power of d·16ᵏ, for digits d at places k: a packet is shorter than 2¹⁶ bytes.
static FACTORS: [[u32; 16]; 4] = factors();

/// What to XOR into the checksum of a packet (as a number, not as stored) when its first four bytes, as stored, change
/// by XOR with `difference` and `rest` bytes follow them.
#[inline(always)]
pub fn delta(difference: u32, rest: u32) -> u32 {
    // The remainder of the four bytes alone: each passes eight steps, which a multiplication by x³² is.
    let mut remainder = multiply(u32::from_le(difference), FACTORS[0][4]);
    for (place, factors) in FACTORS.iter().enumerate() {
        remainder = multiply(remainder, factors[(rest >> (4 * place)) as usize & 15]);
    }
    remainder
}

/// All ones if the lowest bit is set, else 0.
#[inline(always)]
fn mask(bit: u32) -> u32 {
    static MASKS: [u32; 2] = [0, u32::MAX];
    // SAFETY: the index is 0 or 1. Volatile, so that no compiler makes arithmetic of it.
    unsafe { MASKS.as_ptr().add((bit & 1) as usize).read_volatile() }
}

/// The product of two polynomials modulo the generator, both lowest power in the highest bit.
#[inline(always)]
fn multiply(a: u32, b: u32) -> u32 {
    let (mut product, mut b) = (0, b);
    for bit in (0..32).rev() {
        product ^= b & mask(a >> bit);
        b = (b >> 1) ^ (POLYNOMIAL & mask(b));
    }
    product
}

/// The same product, at compile time.
const fn product(a: u32, b: u32) -> u32 {
    let (mut product, mut a, mut b) = (0, a, b);
    while a != 0 {
        if a >> 31 == 1 {
            product ^= b;
        }
        a <<= 1;
        b = if b & 1 == 1 { (b >> 1) ^ POLYNOMIAL } else { b >> 1 };
    }
    product
}

const fn factors() -> [[u32; 16]; 4] {
    let mut factors = [[ONE; 16]; 4];
    let (mut place, mut base) = (0, ONE >> 8);
    while place < 4 {
        let mut digit = 1;
        while digit < 16 {
            factors[place][digit] = product(factors[place][digit - 1], base);
            digit += 1;
        }
        base = product(factors[place][15], base);
        place += 1;
    }
    factors
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bit by bit, from scratch.
    fn crc32c(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 }
            })
        })
    }

    #[test]
    fn the_judge_knows_the_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn an_update_equals_a_recomputation(packet in prop::collection::vec(any::<u8>(), 4..2000), new: [u8; 4]) {
            let old: [u8; 4] = packet[..4].try_into().unwrap();
            let difference = u32::from_ne_bytes(old) ^ u32::from_ne_bytes(new);
            let mut changed = packet.clone();
            changed[..4].copy_from_slice(&new);
            prop_assert_eq!(crc32c(&packet) ^ delta(difference, packet.len() as u32 - 4), crc32c(&changed));
        }
    }
}
