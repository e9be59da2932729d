//! Which keys may be in `flows_`. A connection that opens must find out that neither its own key nor its reply's is in
//! there, and a table of some megabytes in which there is nothing to find answers from memory that nobody has read lately.
//!
//! A Bloom filter with one hash: what it has not been told of is not in the table. The kernel evicts entries without telling
//! anyone, so it would only ever fill; the daemon makes it anew with each sweep. For that each hash has two bits, one for
//! each generation: programs set both and read that of the generation which is complete.
//!
//! No access here orders any other. The daemon waits between its steps until no program runs that has begun earlier.

#[cfg(target_has_atomic = "64")]
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{
    abi::{Address, FlowKey, GOLDEN},
    flow::Live,
};

/// Hashes that are told apart. With 65 536 connections, the half of what `flows_` holds by default, 6 of 100 keys that are not
/// there pass for ones that are, and cost the lookup; with half a million 39.
const HASHES: u32 = 1 << 21;
/// Bits of each hash.
const GENERATIONS: u32 = 2;
/// Hashes whose bits share a word.
const HASHES_PER_WORD: u32 = u64::BITS / GENERATIONS;
/// Words of all hashes.
const WORDS: usize = (HASHES / HASHES_PER_WORD) as usize;

/// Value of `flow_filter`, at index 0. Both families share it; all processors and the daemon use it at once.
#[repr(C)]
pub struct Filter {
    /// The generation to read.
    generation: u64,
    /// The rest of the cache line: what is read with each connection is not next to what changes.
    reserved: [u64; 7],
    /// The bits of each hash, side by side.
    words: [u64; WORDS],
}

impl Live<Filter> {
    /// Whether the table may hold the key. False is certain.
    #[inline(always)]
    pub fn may_hold<A: Address>(&self, key: &FlowKey<A>) -> bool {
        let (index, bit) = place(key);
        self.word(index).get() >> bit >> (self.generation().get() & 1) & 1 != 0
    }

    /// Adds a key, before the table gets it.
    #[inline(always)]
    pub fn add<A: Address>(&self, key: &FlowKey<A>) {
        self.set(key, 0b11);
    }

    #[inline(always)]
    fn set<A: Address>(&self, key: &FlowKey<A>, bits: u64) {
        let (index, bit) = place(key);
        let (word, bits) = (self.word(index), bits << bit);
        // Who connects has mostly connected before: a look leaves the line to the other processors.
        if word.get() & bits != bits {
            word.or(bits);
        }
    }

    #[inline(always)]
    fn generation(&self) -> Word {
        // SAFETY: within the filter.
        Word(unsafe { &raw mut (*self.as_ptr()).generation })
    }

    #[inline(always)]
    fn word(&self, index: usize) -> Word {
        // SAFETY: within the filter, as the index is checked.
        Word(unsafe { &raw mut (*self.as_ptr()).words[index] })
    }
}

#[cfg(target_has_atomic = "64")]
impl Live<Filter> {
    /// Empties the generation that is not read. Programs that begin after that add their keys to it too.
    pub fn renew(&self) -> Renewal<'_> {
        /// The first generation's bit of each hash.
        const FIRST: u64 = 0x5555_5555_5555_5555;
        let current = self.generation().get() & 1;
        for index in 0..WORDS {
            self.word(index).and(FIRST << current);
        }
        Renewal {
            filter: self,
            generation: current ^ 1,
        }
    }
}

/// A generation that is not read yet.
#[cfg(target_has_atomic = "64")]
pub struct Renewal<'a> {
    filter: &'a Live<Filter>,
    generation: u64,
}

#[cfg(target_has_atomic = "64")]
impl Renewal<'_> {
    /// Adds a key that the table holds.
    pub fn add<A: Address>(&self, key: &FlowKey<A>) {
        self.filter.set(key, 1 << self.generation);
    }

    /// Has it read from now on: all keys have been added.
    pub fn complete(self) {
        self.filter.generation().set(self.generation);
    }
}

/// Where the bits of a key are: the index of their word, and the place of the first in there. One round for each part of the
/// key does here; the hash that chooses endpoints takes two.
#[inline(always)]
fn place<A: Address>(key: &FlowKey<A>) -> (usize, u32) {
    let mix = |hash: u64, part: u64| (hash ^ hash >> 32 ^ part).wrapping_mul(GOLDEN);
    let hash = mix(mix(mix(0, key.src.bits()), key.dst.bits()), key.ports_and_protocol());
    let hash = (hash >> (u64::BITS - HASHES.ilog2())) as u32;
    ((hash / HASHES_PER_WORD) as usize, hash % HASHES_PER_WORD * GENERATIONS)
}

/// A word of a filter, aligned, that others change meanwhile: each access is one step.
struct Word(*mut u64);

impl Word {
    #[inline(always)]
    fn get(&self) -> u64 {
        // SAFETY: as the type says.
        unsafe { self.0.read_volatile() }
    }

    /// Sets bits.
    #[cfg(target_arch = "bpf")]
    #[inline(always)]
    fn or(&self, bits: u64) {
        // rustc holds that the target has no such instruction. It has (Linux 5.12).
        // SAFETY: as the type says.
        unsafe {
            core::arch::asm!("lock *(u64 *)({word} + 0) |= {bits}", word = in(reg) self.0, bits = in(reg) bits);
        }
    }
}

#[cfg(target_has_atomic = "64")]
impl Word {
    fn set(&self, value: u64) {
        self.atomic().store(value, Relaxed);
    }

    fn or(&self, bits: u64) {
        self.atomic().fetch_or(bits, Relaxed);
    }

    /// Clears all other bits.
    fn and(&self, bits: u64) {
        self.atomic().fetch_and(bits, Relaxed);
    }

    fn atomic(&self) -> &AtomicU64 {
        // SAFETY: as the type says.
        unsafe { AtomicU64::from_ptr(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::{Layout, alloc_zeroed};

    use super::*;
    use crate::abi::{Protocol, V4Addr, V6Addr};

    /// As the kernel makes it.
    fn empty() -> Box<Live<Filter>> {
        // SAFETY: zeros are numbers; too large to go over the stack.
        unsafe { Box::from_raw(alloc_zeroed(Layout::new::<Filter>()).cast()) }
    }

    fn v4(number: u32) -> V4Addr {
        V4Addr {
            octets: number.to_be_bytes(),
        }
    }

    fn v6(number: u32) -> V6Addr {
        V6Addr {
            octets: (0xfd00_u128 << 112 | u128::from(number)).to_be_bytes(),
        }
    }

    /// Both keys of a connection: clients with eight ports each, four Services with four endpoints each.
    fn connection<A: Address>(number: u32, address: impl Fn(u32) -> A) -> [FlowKey<A>; 2] {
        let client = (address(0x0a00_0001 + number / 8), 32_768 + (number % 8) as u16);
        let vip = (address(0x0a60_0001 + number % 4), 80);
        let pod = (address(0x0af4_0001 + number % 16), 8080);
        [(client, vip), (pod, client)].map(|(src, dst)| FlowKey {
            src: src.0,
            dst: dst.0,
            src_port: src.1,
            dst_port: dst.1,
            protocol: Protocol::TCP,
        })
    }

    fn few_others_pass<A: Address>(address: impl Fn(u32) -> A) {
        const CONNECTIONS: u32 = 65_536;
        let filter = empty();
        let keys = |numbers: core::ops::Range<u32>| numbers.flat_map(|number| connection(number, &address));
        for key in keys(0..CONNECTIONS) {
            filter.add(&key);
        }
        assert!(keys(0..CONNECTIONS).all(|key| filter.may_hold(&key)));
        let pass = keys(CONNECTIONS..2 * CONNECTIONS)
            .filter(|key| filter.may_hold(key))
            .count();
        assert!(pass < 2 * CONNECTIONS as usize * 7 / 100, "{pass}");
    }

    #[test]
    fn few_keys_pass_for_ones_that_were_added() {
        few_others_pass(v4);
        few_others_pass(v6);
    }

    #[test]
    fn a_key_that_was_added_counts_until_a_renewal_does_not_add_it() {
        let filter = empty();
        let [stays, goes] = [1, 2].map(|number| connection(number, v4)[0]);
        // Twice: each generation is made anew once.
        for _ in 0..2 {
            filter.add(&stays);
            filter.add(&goes);
            let renewal = filter.renew();
            renewal.add(&stays);
            assert!(
                filter.may_hold(&stays) && filter.may_hold(&goes),
                "one is read that is not complete"
            );
            renewal.complete();
            assert!(filter.may_hold(&stays) && !filter.may_hold(&goes));
        }
    }

    #[test]
    fn a_key_that_is_added_during_a_renewal_counts_before_and_after() {
        let filter = empty();
        for number in 0..4 {
            let [key, _] = connection(number, v4);
            let renewal = filter.renew();
            filter.add(&key);
            assert!(filter.may_hold(&key));
            renewal.complete();
            assert!(filter.may_hold(&key));
        }
    }

    #[test]
    fn a_renewal_that_is_given_up_changes_nothing() {
        let filter = empty();
        let [first, second] = [1, 2].map(|number| connection(number, v4)[0]);
        filter.add(&first);
        let _ = filter.renew();
        filter.add(&second);
        assert!(filter.may_hold(&first) && filter.may_hold(&second));
        let renewal = filter.renew();
        renewal.add(&second);
        renewal.complete();
        assert!(!filter.may_hold(&first) && filter.may_hold(&second));
    }
}
