//! The Internet checksum, updated in place (RFC 1624): what is added is computed once per connection and stored.
//!
//! All values are 16-bit words as they stand in the packet; one's complement sums do not care about byte order.

/// Folds a sum of 16-bit words into one, carries added back.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

/// What replacing words that sum to `old` by words that sum to `new` adds to a checksum. Both at most 32 words long.
#[inline(always)]
pub const fn delta(old: u32, new: u32) -> u16 {
    fold(!fold(old) as u32 + new)
}

/// The delta that undoes `delta`.
#[inline(always)]
pub const fn inverse(delta: u16) -> u16 {
    !delta
}

/// A checksum field after changes whose deltas add up to `deltas`: some thousands at most.
#[inline(always)]
pub const fn update(field: u16, deltas: u32) -> u16 {
    !fold(!field as u32 + deltas)
}

/// The sum of two deltas.
#[inline(always)]
pub const fn combine(a: u16, b: u16) -> u16 {
    fold(a as u32 + b as u32)
}

/// Whether two checksums are the same: one's complement has two zeros.
#[inline(always)]
pub const fn is_equal(a: u16, b: u16) -> bool {
    is_zero(combine(a, !b))
}

/// Whether a delta changes nothing: both zeros of one's complement.
#[inline(always)]
pub const fn is_zero(delta: u16) -> bool {
    delta == 0 || delta == 0xffff
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The checksum of whole words, from scratch.
    fn checksum(words: &[u16]) -> u16 {
        !fold(words.iter().map(|&word| u32::from(word)).sum())
    }

    proptest! {
        #[test]
        fn an_update_equals_a_recomputation(
            words in prop::collection::vec(any::<u16>(), 12),
            new in prop::collection::vec(any::<u16>(), 4),
        ) {
            let before = checksum(&words);
            let sum = |words: &[u16]| words.iter().map(|&word| u32::from(word)).sum::<u32>();
            let delta = delta(sum(&words[..4]), sum(&new));

            let mut changed = words.clone();
            changed[..4].copy_from_slice(&new);
            // 0x0000 and 0xffff are the same number in one's complement.
            prop_assert_eq!(update(before, delta.into()) % 0xffff, checksum(&changed) % 0xffff);
            prop_assert_eq!(update(update(before, delta.into()), inverse(delta).into()) % 0xffff, before % 0xffff);
        }
    }
}
