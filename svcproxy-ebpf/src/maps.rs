//! Every map of svcproxy. Sizes are what `svcproxy` sets before it loads the programs; those here are its defaults.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, lpm_trie::Key},
    macros::btf_map,
};
use svcproxy_common::{
    Opening, Reason, Table, Tables,
    abi::{
        self, Address as _, AffinityEntry, AffinityKey, Backend, BackendKey, Config, FlowEntry, FlowKey, FragmentKey,
        FragmentPorts, Interface, InterfaceAddresses, Layout, Network, NetworkAddress, ServiceEntry, ServiceKey,
        SlotPair, SocketKey, SocketPeer, SourceRange, V4Addr, V6Addr, XdpInterface,
    },
    filter::Filter,
    flow::Live,
    known::Known,
    verifier::barrier,
};

use crate::{global, reorder};

/// Two entries a connection: 128 Ki connections, what nf_conntrack holds on four cores under kube-proxy.
const FLOWS: usize = 262_144;
/// Connections not yet answered.
const PENDING: usize = 65_536;
/// Clients of Services with affinity.
const AFFINITY: usize = 65_536;
/// Address and port pairs of Services.
const SERVICES: usize = 131_072;
/// Endpoints, once for each set they are in.
const BACKENDS: usize = 262_144;
/// Slots of all sets, in pairs.
const BACKEND_SLOTS: usize = 2_097_152 / 2;
/// Interfaces that packets may be sent to directly.
const INTERFACES_MAX: usize = 4_096;
/// Networks that this node tells apart.
const NETWORKS: usize = 4_096;
/// Source ranges of all Services.
const SOURCE_RANGES: usize = 65_536;
/// Datagrams of which not all fragments have come yet.
const FRAGMENTS: usize = 8_192;
/// Sockets of this node and the Services they use, two entries each.
const SOCKETS: usize = 65_536;
/// Memory that the daemon maps into its own: it reads and writes an element without a system call.
const SHARED: usize = BPF_F_MMAPABLE as usize;
/// Memory only for entries that exist: these maps change with the manifests, not with packets.
const SPARSE: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map(name = "flows_v4")]
static FLOWS_V4: LruHashMap<FlowKey<V4Addr>, FlowEntry<V4Addr>, FLOWS> = LruHashMap::new();
#[btf_map(name = "flows_v6")]
static FLOWS_V6: LruHashMap<FlowKey<V6Addr>, FlowEntry<V6Addr>, FLOWS> = LruHashMap::new();

/// What may be in `flows_`.
#[btf_map(name = "flow_filter")]
static FLOW_FILTER: Array<Filter, 1, SHARED> = Array::new();

#[btf_map(name = "pending_v4")]
static PENDING_V4: LruHashMap<FlowKey<V4Addr>, FlowEntry<V4Addr>, PENDING> = LruHashMap::new();
#[btf_map(name = "pending_v6")]
static PENDING_V6: LruHashMap<FlowKey<V6Addr>, FlowEntry<V6Addr>, PENDING> = LruHashMap::new();

#[btf_map(name = "affinity_v4")]
static AFFINITY_V4: LruHashMap<AffinityKey<V4Addr>, AffinityEntry, AFFINITY> = LruHashMap::new();
#[btf_map(name = "affinity_v6")]
static AFFINITY_V6: LruHashMap<AffinityKey<V6Addr>, AffinityEntry, AFFINITY> = LruHashMap::new();

#[btf_map(name = "services_v4")]
static SERVICES_V4: HashMap<ServiceKey<V4Addr>, ServiceEntry, SERVICES, SPARSE> = HashMap::new();
#[btf_map(name = "services_v6")]
static SERVICES_V6: HashMap<ServiceKey<V6Addr>, ServiceEntry, SERVICES, SPARSE> = HashMap::new();

#[btf_map(name = "backends_v4")]
static BACKENDS_V4: HashMap<BackendKey, Backend<V4Addr>, BACKENDS, SPARSE> = HashMap::new();
#[btf_map(name = "backends_v6")]
static BACKENDS_V6: HashMap<BackendKey, Backend<V6Addr>, BACKENDS, SPARSE> = HashMap::new();

#[btf_map(name = "networks_v4")]
static NETWORKS_V4: LpmTrie<NetworkAddress<V4Addr>, Network, NETWORKS, SPARSE> = LpmTrie::new();
#[btf_map(name = "networks_v6")]
static NETWORKS_V6: LpmTrie<NetworkAddress<V6Addr>, Network, NETWORKS, SPARSE> = LpmTrie::new();

#[btf_map(name = "source_ranges_v4")]
static SOURCE_RANGES_V4: LpmTrie<SourceRange<V4Addr>, u32, SOURCE_RANGES, SPARSE> = LpmTrie::new();
#[btf_map(name = "source_ranges_v6")]
static SOURCE_RANGES_V6: LpmTrie<SourceRange<V6Addr>, u32, SOURCE_RANGES, SPARSE> = LpmTrie::new();

#[btf_map(name = "config_v4")]
static CONFIG_V4: Array<Config<V4Addr>, 1> = Array::new();
#[btf_map(name = "config_v6")]
static CONFIG_V6: Array<Config<V6Addr>, 1> = Array::new();

#[btf_map(name = "fragments_v4")]
static FRAGMENTS_V4: LruHashMap<FragmentKey<V4Addr>, FragmentPorts, FRAGMENTS> = LruHashMap::new();
#[btf_map(name = "fragments_v6")]
static FRAGMENTS_V6: LruHashMap<FragmentKey<V6Addr>, FragmentPorts, FRAGMENTS> = LruHashMap::new();

#[btf_map(name = "sockets_v4")]
static SOCKETS_V4: LruHashMap<SocketKey<V4Addr>, SocketPeer<V4Addr>, SOCKETS> = LruHashMap::new();
#[btf_map(name = "sockets_v6")]
static SOCKETS_V6: LruHashMap<SocketKey<V6Addr>, SocketPeer<V6Addr>, SOCKETS> = LruHashMap::new();

/// The endpoint numbers of all sets, one region each: choosing is one index into a region.
#[btf_map(name = "backend_slots")]
static SLOTS: Array<SlotPair, BACKEND_SLOTS, SHARED> = Array::new();

#[btf_map(name = "opening_v4")]
static OPENING_V4: PerCpuArray<Opening<V4Addr>, 1> = PerCpuArray::new();
#[btf_map(name = "opening_v6")]
static OPENING_V6: PerCpuArray<Opening<V6Addr>, 1> = PerCpuArray::new();

/// Programs that others go on to, by [`Successor`].
#[btf_map(name = "programs")]
pub(crate) static PROGRAMS: ProgramArray<3> = ProgramArray::new();

/// Indices of `programs`.
#[repr(u32)]
#[derive(Clone, Copy)]
pub(crate) enum Successor {
    /// `svcproxy_in_any`
    In = 0,
    /// `svcproxy_out_any`
    Out = 1,
    /// `svcproxy_reorder`
    Reorder = 2,
}

/// A value on its way through memory, where the verifier does not follow it.
#[btf_map(name = "opaque")]
static OPAQUE: PerCpuArray<u64, 1> = PerCpuArray::new();

/// By ifindex; see [`Interface`].
#[btf_map(name = "interfaces")]
pub(crate) static INTERFACES: HashMap<u32, Interface, INTERFACES_MAX, SPARSE> = HashMap::new();

/// By ifindex; see [`InterfaceAddresses`].
#[btf_map(name = "interface_addresses")]
pub(crate) static INTERFACE_ADDRESSES: HashMap<u32, InterfaceAddresses, INTERFACES_MAX, SPARSE> = HashMap::new();

/// The interfaces that run XDP, see [`XdpInterface`].
#[btf_map(name = "xdp_interfaces")]
pub(crate) static XDP_INTERFACES: Array<XdpInterface, { abi::XDP_INTERFACES as usize }> = Array::new();

/// Addresses that can matter, see [`svcproxy_common::known`].
#[btf_map(name = "known")]
static KNOWN: Array<Known, 1, SHARED> = Array::new();

/// Packets by [`Reason`].
#[btf_map(name = "reasons")]
static REASONS: PerCpuArray<u64, { Reason::ALL.len() }> = PerCpuArray::new();

/// The daemon writes and compares it; the programs only keep it pinned with the rest.
#[btf_map(name = "layout")]
static LAYOUT: Array<Layout, 1> = Array::new();

/// The kernel's maps as [`Tables`].
pub(crate) struct Maps;

impl Maps {
    /// Counts an outcome; every packet passes here once.
    #[inline(always)]
    pub(crate) fn counted<T>(outcome: Result<T, Reason>) -> Result<T, Reason> {
        match outcome {
            Ok(_) => Self::count(Reason::Translated),
            Err(reason) => Self::count(reason),
        }
        outcome
    }

    /// The same value, unknown to the verifier.
    #[inline(always)]
    pub(crate) fn opaque<T: Copy>(value: T) -> T {
        const { assert!(size_of::<T>() <= size_of::<u64>() && align_of::<T>() <= align_of::<u64>()) };
        match OPAQUE.get_ptr_mut(0) {
            // SAFETY: the slot has room for it, is this CPU's own, and programs of these types do not nest on one CPU.
            Some(slot) => unsafe {
                let slot = slot.cast::<T>();
                slot.write_volatile(value);
                slot.read_volatile()
            },
            None => value, // an array has its first slot
        }
    }

    /// What is told of a key before `flows_` gets it.
    #[inline(always)]
    fn filter() -> Option<&'static Live<Filter>> {
        // SAFETY: `Live` has the layout of what it wraps.
        FLOW_FILTER.get_ptr_mut(0).map(|filter| unsafe { &*filter.cast() })
    }

    #[inline(always)]
    fn count(reason: Reason) {
        if let Some(count) = REASONS.get_ptr_mut(reason as u32) {
            // SAFETY: this CPU's own slot, and programs of these types do not nest on one CPU.
            unsafe { *count += 1 };
        }
    }
}

macro_rules! tables {
    (
        $address:ty, $flows:ident, $pending:ident, $services:ident, $backends:ident, $affinity:ident,
        $networks:ident, $source_ranges:ident, $config:ident, $fragments:ident, $opening:ident,
        $sockets:ident, $choose:ident, $is_vacant:ident
    ) => {
        impl Tables<$address> for Maps {
            #[inline(always)]
            fn flow(&self, table: Table, key: &FlowKey<$address>) -> Option<&Live<FlowEntry<$address>>> {
                let entry = match table {
                    Table::Flows => $flows.get_ptr_mut(key),
                    Table::Pending => $pending.get_ptr_mut(key),
                };
                // SAFETY: a pointer the kernel has just returned; `Live` has the layout of what it wraps.
                entry.map(|entry| unsafe { &*entry.cast() })
            }

            #[inline(always)]
            fn may_hold(&self, key: &FlowKey<$address>) -> bool {
                Self::filter().is_none_or(|filter| filter.may_hold(key))
            }

            #[inline(always)]
            fn set_flow(&self, table: Table, key: &FlowKey<$address>, entry: &FlowEntry<$address>) -> bool {
                match table {
                    Table::Flows => {
                        if let Some(filter) = Self::filter() {
                            filter.add(key);
                        }
                        $flows.insert(key, entry, 0)
                    }
                    Table::Pending => $pending.insert(key, entry, 0),
                }
                .is_ok()
            }

            #[inline(always)]
            fn promote_flow(&self, key: &FlowKey<$address>, entry: &Live<FlowEntry<$address>>) -> bool {
                // SAFETY: the kernel copies the entry from its slot into the new one.
                let entry = unsafe { &*entry.as_ptr() };
                let inserted = self.set_flow(Table::Flows, key, entry);
                if inserted {
                    self.forget_flow(Table::Pending, key);
                }
                inserted
            }

            #[inline(always)]
            fn forget_flow(&self, table: Table, key: &FlowKey<$address>) {
                // Who is not there is forgotten.
                let _ = match table {
                    Table::Flows => $flows.remove(key),
                    Table::Pending => $pending.remove(key),
                };
            }

            #[inline(always)]
            fn service(&self, key: &ServiceKey<$address>) -> Option<&ServiceEntry> {
                // SAFETY: the programs never change this map; the daemon replaces values whole.
                unsafe { $services.get(key) }
            }

            #[inline(always)]
            fn opening(&self) -> Option<&mut Opening<$address>> {
                let opening = barrier($opening.get_ptr_mut(0)?);
                // SAFETY: this CPU's own slot; programs of these types do not nest, and its users take turns.
                Some(unsafe { &mut *opening })
            }

            #[inline(always)]
            fn opened(&self) -> Option<&Live<FlowEntry<$address>>> {
                let opening = barrier($opening.get_ptr_mut(0)?);
                // SAFETY: this CPU's own slot; `Live` has the layout of what it wraps.
                Some(unsafe { &*(&raw mut (*opening).entry).cast() })
            }

            #[inline(always)]
            fn known(&self) -> Option<&Known> {
                KNOWN.get(0)
            }

            #[inline(always)]
            fn network(&self, address: &$address) -> Option<Network> {
                $networks
                    .get(&Key::new(size_of::<$address>() as u32 * 8, address.octets()))
                    .copied()
            }

            #[inline(always)]
            fn in_source_ranges(&self, service: u32, client: &$address) -> bool {
                let range = SourceRange {
                    service,
                    client: client.octets(),
                };
                $source_ranges
                    .get(&Key::new(size_of::<SourceRange<$address>>() as u32 * 8, range))
                    .is_some()
            }

            #[inline(always)]
            fn config(&self) -> Option<&Config<$address>> {
                $config.get(0)
            }

            #[inline(always)]
            fn fragment(&self, key: &FragmentKey<$address>) -> Option<FragmentPorts> {
                // SAFETY: copied at once; all pieces of a datagram write the same ports.
                unsafe { $fragments.get(key) }.copied()
            }

            #[inline(always)]
            fn has_early_fragments(&self, key: &FragmentKey<$address>) -> bool {
                reorder::is_waited_for(key)
            }

            #[inline(always)]
            fn set_fragment(&self, key: &FragmentKey<$address>, ports: FragmentPorts) {
                // A datagram whose ports cannot be kept loses its later fragments, as it would to any full table.
                let _ = $fragments.insert(key, ports, 0);
            }

            #[inline(always)]
            fn slot(&self, index: u32) -> Option<u32> {
                SLOTS.get(index / 2).map(|pair| pair[index as usize % 2])
            }

            #[inline(always)]
            fn backend(&self, key: &BackendKey) -> Option<&Backend<$address>> {
                // SAFETY: as for services.
                unsafe { $backends.get(key) }
            }

            #[inline(always)]
            fn affinity(&self, key: &AffinityKey<$address>) -> Option<&Live<AffinityEntry>> {
                // SAFETY: as for flows.
                $affinity.get_ptr_mut(key).map(|entry| unsafe { &*entry.cast() })
            }

            #[inline(always)]
            fn set_affinity(&self, key: &AffinityKey<$address>, entry: &AffinityEntry) {
                // Only a table under allocation pressure refuses; the client then keeps its hash's choice.
                let _ = $affinity.insert(key, entry, 0);
            }

            #[inline(always)]
            fn socket(&self, key: &SocketKey<$address>) -> Option<SocketPeer<$address>> {
                // SAFETY: copied at once; a socket that two threads use at once for two Services is theirs to order.
                unsafe { $sockets.get(key) }.copied()
            }

            #[inline(always)]
            fn set_socket(&self, key: &SocketKey<$address>, peer: &SocketPeer<$address>) {
                // As for affinity; the process then sees the endpoint's address.
                let _ = $sockets.insert(key, peer, 0);
            }

            #[inline(always)]
            fn choose(&self, key: &FlowKey<$address>, now: u32) -> Result<(), Reason> {
                global::result(global::$choose(key, now))
            }

            #[inline(always)]
            fn is_vacant(&self, reply_key: &FlowKey<$address>, key: &FlowKey<$address>, now: u32) -> bool {
                global::$is_vacant(reply_key, key, now)
            }
        }
    };
}

tables!(
    V4Addr,
    FLOWS_V4,
    PENDING_V4,
    SERVICES_V4,
    BACKENDS_V4,
    AFFINITY_V4,
    NETWORKS_V4,
    SOURCE_RANGES_V4,
    CONFIG_V4,
    FRAGMENTS_V4,
    OPENING_V4,
    SOCKETS_V4,
    choose_v4,
    is_vacant_v4
);
tables!(
    V6Addr,
    FLOWS_V6,
    PENDING_V6,
    SERVICES_V6,
    BACKENDS_V6,
    AFFINITY_V6,
    NETWORKS_V6,
    SOURCE_RANGES_V6,
    CONFIG_V6,
    FRAGMENTS_V6,
    OPENING_V6,
    SOCKETS_V6,
    choose_v6,
    is_vacant_v6
);
