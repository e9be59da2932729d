//! Datagrams in pieces: only the first carries ports, and the others follow it.

use crate::{
    Tables,
    abi::{Address, FlowKey, FragmentKey, FragmentPorts},
};

/// Completes the key of a later fragment with the ports of its first. False when that has not been seen.
#[inline(never)]
pub fn follow<A: Address, T: Tables<A>>(tables: &T, key: &mut FlowKey<A>, identification: u32) -> bool {
    match tables.fragment(&fragment_key(key, identification)) {
        Some(FragmentPorts { src_port, dst_port }) => {
            key.src_port = src_port;
            key.dst_port = dst_port;
            true
        }
        None => false,
    }
}

/// Whether later fragments have come before the first, whose packet `key` is of.
#[inline(never)]
pub fn overtaken<A: Address, T: Tables<A>>(tables: &T, key: &FlowKey<A>, identification: u32) -> bool {
    tables.has_early_fragments(&fragment_key(key, identification))
}

/// Remembers the ports of a first fragment for the others.
#[inline(never)]
pub fn remember<A: Address, T: Tables<A>>(tables: &T, key: &FlowKey<A>, identification: u32) {
    let FlowKey { src_port, dst_port, .. } = *key;
    tables.set_fragment(&fragment_key(key, identification), FragmentPorts { src_port, dst_port });
}

#[inline(always)]
fn fragment_key<A: Address>(key: &FlowKey<A>, identification: u32) -> FragmentKey<A> {
    FragmentKey {
        src: key.src,
        dst: key.dst,
        identification,
        protocol: key.protocol,
    }
}
