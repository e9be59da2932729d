//! Maglev tables: which endpoint answers for which slot, the same on every node and nearly the same after a change.
//!
//! In come the endpoints of one set, out goes the content of its region in `backend_slots`. A connection's hash picks
//! a slot, so the table decides how evenly connections spread and how many of them would choose differently after an
//! endpoint came or went. No allocation: the caller brings the candidates, which double as the working memory, and
//! the table. After Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, §3.4.

use crate::abi::Address;

/// Table lengths for two and more endpoints: primes, so that every stride visits every slot, each about twice the one
/// before.
///
/// They are far apart on purpose. A hash finds the same slot again only in a table of the same length, so a length
/// that followed every change of the number of endpoints would give up what consistent hashing is for.
const LENGTHS: [u32; 18] = [
    97, 193, 389, 769, 1543, 3079, 6151, 12289, 24593, 49157, 98317, 196613, 393241, 786433, 1572869, 3145739, 6291469,
    12582917,
];

/// Slots for each endpoint, at the least. Slot counts differ by at most one, so 32 keeps the spread within 1/32, 3 %.
const SLOTS_PER_ENDPOINT: u32 = 32;

/// Length of the table for that many endpoints: 0, 1, or the smallest length in the list with 32 slots for each.
///
/// `None` when there are more endpoints than the longest table serves, 393 216.
///
/// ```
/// use svcproxy_common::maglev::table_length;
/// assert_eq!([0, 1, 2, 3, 4].map(table_length), [Some(0), Some(1), Some(97), Some(97), Some(193)]);
/// ```
pub fn table_length(endpoints: usize) -> Option<u32> {
    match u32::try_from(endpoints).ok()? {
        few @ 0..=1 => Some(few),
        many => {
            let least = many.checked_mul(SLOTS_PER_ENDPOINT)?;
            LENGTHS.into_iter().find(|length| *length >= least)
        }
    }
}

/// An endpoint in the running for slots, and how far it has got.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    endpoint: u32,
    hash: u64,
    position: u32,
    stride: u32,
}

impl Candidate {
    /// The endpoint with this address, to be written as `endpoint` into the slots it gets.
    ///
    /// The order in which it asks for slots follows from the address alone, so the tables of several ports of one
    /// Service agree. `ordinal` tells apart the endpoints of one set that share an address (and differ in port):
    /// 0 for the first of them, 1 for the next.
    pub fn new(address: &impl Address, ordinal: u32, endpoint: u32) -> Self {
        let seed = mix(0x7376_6370_726f_7879 ^ u64::from(ordinal));
        Self {
            endpoint,
            hash: mix(seed ^ address.bits()),
            position: 0,
            stride: 0,
        }
    }
}

/// Fills the table: every slot gets an endpoint, and their shares differ by one slot at most.
///
/// The table's length comes from [`table_length`]. The result depends on the order of the candidates; sort them by
/// address and ordinal, not by a number that other nodes do not share. Without candidates the table is left alone.
pub fn fill(candidates: &mut [Candidate], table: &mut [u32]) {
    /// Marks a free slot. Until the end slots hold indexes into `candidates` instead, so that any endpoint number is allowed.
    const FREE: u32 = u32::MAX;

    let length = table.len() as u32;
    let Some(last) = length.checked_sub(1) else { return };
    if candidates.is_empty() {
        return;
    }
    for candidate in candidates.iter_mut() {
        candidate.position = (candidate.hash >> 32) as u32 % length;
        candidate.stride = (candidate.hash as u32).checked_rem(last).map_or(0, |rest| rest + 1);
    }
    table.fill(FREE);
    for turn in (0..candidates.len()).cycle().take(table.len()) {
        let candidate = &mut candidates[turn];
        while table[candidate.position as usize] != FREE {
            candidate.position += candidate.stride;
            if candidate.position >= length {
                candidate.position -= length;
            }
        }
        table[candidate.position as usize] = turn as u32;
    }
    for slot in table {
        *slot = candidates[*slot as usize].endpoint;
    }
}

/// The finaliser of SplitMix64: every input bit reaches every output bit.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::abi::V4Addr;

    /// The table of these addresses, each numbered by its own 32 bits.
    fn table(addresses: &[u32]) -> Vec<u32> {
        let mut candidates: Vec<_> = addresses
            .iter()
            .map(|address| Candidate::new(&v4(*address), 0, *address))
            .collect();
        let mut table = vec![0; table_length(addresses.len()).unwrap() as usize];
        fill(&mut candidates, &mut table);
        table
    }

    fn v4(address: u32) -> V4Addr {
        V4Addr {
            octets: address.to_be_bytes(),
        }
    }

    fn shares(table: &[u32]) -> BTreeMap<u32, usize> {
        let mut shares = BTreeMap::new();
        for endpoint in table {
            *shares.entry(*endpoint).or_default() += 1;
        }
        shares
    }

    #[test]
    fn lengths_are_prime() {
        for length in LENGTHS {
            let root = f64::from(length).sqrt() as u32;
            assert!((2..=root).all(|divisor| length % divisor != 0), "{length} is not prime");
        }
    }

    #[test]
    fn lengths_have_room_for_32_slots_each() {
        let lengths = [0, 1, 2, 3, 4, 6, 7, 12, 13, 1000, 393_216].map(table_length);
        let expected = [0, 1, 97, 97, 193, 193, 389, 389, 769, 49157, 12_582_917].map(Some);
        assert_eq!(lengths, expected);
        assert_eq!([393_217, usize::MAX].map(table_length), [None, None]);
    }

    #[test]
    fn tables_are_the_same_on_every_node() {
        let table = table(&[0x0a00_0001, 0x0a00_0002, 0x0a00_0003]);
        let start: Vec<_> = table.iter().take(16).map(|address| address & 0xff).collect();
        assert_eq!(start, [2, 3, 1, 3, 3, 2, 1, 2, 2, 3, 1, 2, 3, 2, 2, 3]);
    }

    #[test]
    fn one_address_on_two_ports_gets_two_shares() {
        let address = v4(0x0a00_0001);
        let mut candidates = [Candidate::new(&address, 0, 7), Candidate::new(&address, 1, 8)];
        let mut table = [0; 97];
        fill(&mut candidates, &mut table);
        assert_eq!(shares(&table), [(7, 49), (8, 48)].into());
    }

    proptest! {
        #[test]
        fn shares_differ_by_one_slot_at_most(addresses in prop::collection::btree_set(any::<u32>(), 1..200)) {
            let addresses: Vec<_> = addresses.into_iter().collect();
            let shares = shares(&table(&addresses));
            prop_assert_eq!(shares.len(), addresses.len());
            prop_assert!(shares.values().max().unwrap() - shares.values().min().unwrap() <= 1);
        }

        /// Of the slots whose endpoint stays, 2 to 5 % move on average when another endpoint goes; one set of 3 in
        /// some thousands is unlucky and moves a third. Plain modulo would move half to all of them.
        #[test]
        fn few_others_move_when_one_goes(
            size in prop::sample::select(vec![3_usize, 5, 6, 10, 12, 24, 48, 100]),
            seed in any::<u32>(),
        ) {
            const SETS: u32 = 40;
            let moved: f64 = (0..SETS).map(|set| {
                let mut addresses: Vec<_> = (0..size as u32).map(|host| seed.wrapping_add(set * 251 + host)).collect();
                let before = table(&addresses);
                let gone = addresses.remove(set as usize % size);
                let after = table(&addresses);
                assert_eq!(before.len(), after.len());
                let pairs = before.iter().zip(&after);
                pairs.filter(|(before, after)| **before != gone && before != after).count() as f64 / after.len() as f64
            }).sum();
            prop_assert!(moved / f64::from(SETS) < 0.08, "{:.1} % moved", 100.0 * moved / f64::from(SETS));
        }
    }
}
