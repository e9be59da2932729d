//! Which addresses can matter at all. Most packets of a busy node belong to no Service, and should not pay for the
//! lookups that find that out.
//!
//! One bit map says of the hash of an address whether it is that of a Service, of an endpoint or of a connection that is
//! remembered. Addresses may share a bit: a set bit means nothing, a clear one that there is nothing to look up.

use crate::abi::{Address, GOLDEN};

/// Bits in the map, 128 KiB. With 10 000 Services and 70 000 pods, 200 to a network, 3 of 100 others pass for one of them,
/// and pay for the lookups.
pub const BITS: u32 = 1 << 20;
/// The same in words.
pub const WORDS: u32 = BITS / u64::BITS;

/// The map.
pub type Known = [u64; WORDS as usize];

/// Whether the bit of an address is set.
#[inline(always)]
pub fn may_matter<A: Address>(known: &Known, address: &A) -> bool {
    let (word, mask) = bit(address);
    known[word as usize] & mask != 0
}

/// A bit of the map: index of its word, and the mask in there.
pub type Bit = (u32, u64);

/// The bit of an address.
///
/// Addresses that differ in their last octet only have one word together, each bit of it four of them: what a node's pods
/// take, or Services that were given their addresses one after the other, stays near the processor.
#[inline(always)]
pub fn bit<A: Address>(address: &A) -> Bit {
    // A product has the last octet in its upper eight bits and in no others. Six of those are the bit; the fourteen bits
    // below them are the word.
    let product = address.bits_last_octet_first().wrapping_mul(GOLDEN);
    let word = product >> (u64::BITS - u8::BITS - WORDS.ilog2()) & u64::from(WORDS - 1);
    (word as u32, 1 << (product >> (u64::BITS - u64::BITS.ilog2())))
}

/// A hash of an address, best in its upper bits.
#[inline(always)]
pub fn hash<A: Address>(address: &A) -> u32 {
    (address.bits().wrapping_mul(GOLDEN) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, net::Ipv6Addr};

    use super::*;
    use crate::abi::{V4Addr, V6Addr};

    fn v4(number: u32) -> V4Addr {
        V4Addr {
            octets: number.to_be_bytes(),
        }
    }

    fn v6(network: &str, number: u128) -> V6Addr {
        let network: Ipv6Addr = network.parse().unwrap();
        V6Addr {
            octets: (u128::from(network) | number).to_be_bytes(),
        }
    }

    /// Numbers in no order.
    fn scattered(count: u64, below: u64) -> impl Iterator<Item = u64> {
        (0..count).map(move |index| index.wrapping_mul(0xd134_2543_de82_ef95).rotate_left(27) % below)
    }

    /// Pods of the networks of 350 nodes.
    const PODS: u32 = 70_000;
    /// The network after them.
    const NEXT: u32 = PODS / 200;

    /// Of 100 000 others, few pass for one of these addresses.
    fn check<A: Address>(ours: impl Iterator<Item = A>, others: [&mut dyn Iterator<Item = A>; 2]) {
        let ours: HashSet<A> = ours.collect();
        let set: HashSet<Bit> = ours.iter().map(bit).collect();
        let [anyone, neighbours] = others.map(|others| {
            others
                .filter(|other| !ours.contains(other) && set.contains(&bit(other)))
                .count()
        });
        assert!((2_000..4_500).contains(&anyone), "{anyone}: anyone");
        assert!(
            neighbours < 4_500,
            "{neighbours}: those in the networks after the pods'"
        );
    }

    #[test]
    fn few_others_pass_for_an_address_of_ours_in_ipv4() {
        let node = |node: u32| (10 << 24 | 128 << 16) + (node << 8);
        let services = scattered(10_000, 1 << 20).map(|number| v4(10 << 24 | 96 << 16 | number as u32));
        check(
            services.chain((0..PODS).map(|pod| v4(node(pod / 200) + pod % 200))),
            [
                &mut scattered(100_000, 1 << 32).map(|number| v4(number as u32)),
                &mut (0..100_000).map(|number| v4(node(NEXT) + number)),
            ],
        );
    }

    #[test]
    fn few_others_pass_for_an_address_of_ours_in_ipv6() {
        let node = |node: u32, number: u32| v6("fd00:10:244::", u128::from(node) << 64 | u128::from(number));
        let services = scattered(10_000, 1 << 20).map(|number| v6("fd00:10:96::", number.into()));
        check(
            services.chain((0..PODS).map(|pod| node(pod / 200, pod % 200))),
            [
                &mut scattered(100_000, u64::MAX).map(|number| v6("2001:db8::", u128::from(number) << 17)),
                &mut (0..100_000).map(|number| node(NEXT + number / 200, number % 200)),
            ],
        );
    }

    #[test]
    fn neighbours_share_a_word() {
        fn check<A: Address>(neighbours: impl Iterator<Item = A>) {
            let bits: Vec<_> = neighbours.map(|address| bit(&address)).collect();
            let (word, _) = bits[0];
            assert!(word < WORDS && bits.iter().all(|bit| bit.0 == word));
            for mask in (0..u64::BITS).map(|bit| 1 << bit) {
                assert_eq!(bits.iter().filter(|bit| bit.1 == mask).count(), 4);
            }
        }
        check((0..256).map(|number| v4(10 << 24 | number)));
        check((0..256).map(|number| v6("fd00::", number)));
    }
}
