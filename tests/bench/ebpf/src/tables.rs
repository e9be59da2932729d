//! The maps of the bench. The floors' tables are like svcproxy's in kind, key and value; the bench sets their sizes.

use aya_ebpf::{
    btf_maps::{Array, LruHashMap, PerCpuArray, ProgramArray},
    macros::btf_map,
};
use svcproxy_common::abi::{FlowEntry, FlowKey, V4Addr, V6Addr};

use crate::control::WORDS;

/// Programs under test: more than any run has at a time.
const PROGRAMS: usize = 256;
/// Tuples, where the bench sets no other number.
const TUPLES: usize = 1024;
/// Entries of the floors' tables, where the bench sets no other number.
const FLOWS: usize = 1024;

/// See [`crate::control`].
#[btf_map(name = "control")]
pub(crate) static CONTROL: Array<[u32; WORDS], 1> = Array::new();

/// What to put into packets, in the order of use.
#[btf_map(name = "tuples_v4")]
pub(crate) static TUPLES_V4: Array<FlowKey<V4Addr>, TUPLES> = Array::new();
#[btf_map(name = "tuples_v6")]
pub(crate) static TUPLES_V6: Array<FlowKey<V6Addr>, TUPLES> = Array::new();

/// Ethernet and IPv4 header of what `send` sends: a page that comes back from the kernel is as that has left it.
#[btf_map(name = "headers")]
pub(crate) static HEADERS: Array<[u16; 17], 1> = Array::new();

/// Two arrays: all programs in one are of one type.
#[btf_map(name = "xdp_programs")]
pub(crate) static XDP_PROGRAMS: ProgramArray<PROGRAMS> = ProgramArray::new();
#[btf_map(name = "tc_programs")]
pub(crate) static TC_PROGRAMS: ProgramArray<PROGRAMS> = ProgramArray::new();

/// Connections of the floors that translate.
#[btf_map(name = "floor_v4")]
pub(crate) static FLOOR_V4: LruHashMap<FlowKey<V4Addr>, FlowEntry<V4Addr>, FLOWS> = LruHashMap::new();
#[btf_map(name = "floor_v6")]
pub(crate) static FLOOR_V6: LruHashMap<FlowKey<V6Addr>, FlowEntry<V6Addr>, FLOWS> = LruHashMap::new();

/// Connections of the floors that open some.
#[btf_map(name = "fresh_v4")]
pub(crate) static FRESH_V4: LruHashMap<FlowKey<V4Addr>, FlowEntry<V4Addr>, FLOWS> = LruHashMap::new();
#[btf_map(name = "fresh_v6")]
pub(crate) static FRESH_V6: LruHashMap<FlowKey<V6Addr>, FlowEntry<V6Addr>, FLOWS> = LruHashMap::new();

/// Packets translated.
#[btf_map(name = "translated")]
pub(crate) static TRANSLATED: PerCpuArray<u64, 1> = PerCpuArray::new();
