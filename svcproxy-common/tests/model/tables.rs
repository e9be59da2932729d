//! The maps as hash maps. What was ever stored is kept, so that a reference stays good after its entry is gone, as in
//! the kernel, where the slot stays readable.

use std::{
    cell::{Cell, RefCell, UnsafeCell},
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    ptr::NonNull,
};

use svcproxy_common::{
    Opening, SocketTuple, Table, Tables,
    abi::{
        Address, AffinityEntry, AffinityKey, Backend, BackendKey, Config, FlowEntry, FlowKey, FragmentKey,
        FragmentPorts, Network, ServiceEntry, ServiceKey, SocketKey, SocketPeer, V4Addr, V6Addr,
    },
    flow::Live,
    known::{Known, WORDS},
};

/// A map that takes `capacity` entries and then no more.
pub struct HostMap<K, V> {
    entries: RefCell<HashMap<K, NonNull<V>>>,
    /// Everything ever stored.
    kept: RefCell<Vec<NonNull<V>>>,
    pub capacity: Cell<usize>,
}

impl<K, V> Drop for HostMap<K, V> {
    fn drop(&mut self) {
        for value in self.kept.get_mut().drain(..) {
            // SAFETY: from `Box::leak` in `insert`, freed only here, when no reference is left.
            drop(unsafe { Box::from_raw(value.as_ptr()) });
        }
    }
}

impl<K: Eq + Hash + Copy, V> HostMap<K, V> {
    fn new() -> Self {
        Self {
            entries: RefCell::default(),
            kept: RefCell::default(),
            capacity: Cell::new(usize::MAX),
        }
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        // SAFETY: what was stored lives as long as the map.
        self.entries.borrow().get(key).map(|value| unsafe { value.as_ref() })
    }

    pub fn insert(&self, key: K, value: V) -> bool {
        let mut entries = self.entries.borrow_mut();
        let room = entries.len() < self.capacity.get() || entries.contains_key(&key);
        if room {
            let value = NonNull::from(Box::leak(Box::new(value)));
            self.kept.borrow_mut().push(value);
            entries.insert(key, value);
        }
        room
    }

    pub fn remove(&self, key: &K) -> bool {
        self.entries.borrow_mut().remove(key).is_some()
    }

    pub fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    pub fn keys(&self) -> Vec<K> {
        self.entries.borrow().keys().copied().collect()
    }

    pub fn contents<T>(&self, value: impl Fn(&V) -> T) -> Vec<(K, T)> {
        let keys = self.keys().into_iter();
        keys.filter_map(|key| Some((key, value(self.get(&key)?)))).collect()
    }

    pub fn clear(&self) {
        self.entries.borrow_mut().clear();
    }
}

/// The maps of one family.
pub struct FamilyTables<A: Address> {
    pub flows: HostMap<FlowKey<A>, Live<FlowEntry<A>>>,
    pub pending: HostMap<FlowKey<A>, Live<FlowEntry<A>>>,
    pub services: HostMap<ServiceKey<A>, ServiceEntry>,
    pub backends: HostMap<BackendKey, Backend<A>>,
    pub affinity: HostMap<AffinityKey<A>, Live<AffinityEntry>>,
    pub fragments: HostMap<FragmentKey<A>, FragmentPorts>,
    pub sockets: HostMap<SocketKey<A>, SocketPeer<A>>,
    /// Networks with the number of leading bits that count; the longest counts.
    pub networks: RefCell<Vec<(A::Octets, u32, Network)>>,
    /// By number of the Service, the networks that its clients must be in.
    pub source_ranges: RefCell<Vec<(u32, A::Octets, u32)>>,
    pub config: HostMap<(), Config<A>>,
    opening: UnsafeCell<Opening<A>>,
}

impl<A: Side> FamilyTables<A> {
    fn new() -> Self {
        let key = FlowKey {
            src: A::UNSPECIFIED,
            dst: A::UNSPECIFIED,
            src_port: 0,
            dst_port: 0,
            protocol: svcproxy_common::abi::Protocol::ANY,
        };
        Self {
            flows: HostMap::new(),
            pending: HostMap::new(),
            services: HostMap::new(),
            backends: HostMap::new(),
            affinity: HostMap::new(),
            fragments: HostMap::new(),
            sockets: HostMap::new(),
            networks: RefCell::default(),
            source_ranges: RefCell::default(),
            config: HostMap::new(),
            opening: UnsafeCell::new(Opening {
                masquerade: false,
                reply_key: key,
                entry: FlowEntry::blank(A::UNSPECIFIED),
                tuple: SocketTuple {
                    src: A::UNSPECIFIED,
                    dst: A::UNSPECIFIED,
                    src_port: 0,
                    dst_port: 0,
                },
            }),
        }
    }

    pub fn table(&self, table: Table) -> &HostMap<FlowKey<A>, Live<FlowEntry<A>>> {
        match table {
            Table::Flows => &self.flows,
            Table::Pending => &self.pending,
        }
    }
}

/// All maps.
pub struct HostTables {
    pub v4: FamilyTables<V4Addr>,
    pub v6: FamilyTables<V6Addr>,
    pub slots: HostMap<u32, u32>,
    /// Lookups of Services, which only new connections may make.
    pub service_lookups: Cell<usize>,
    interruption: RefCell<Option<Interruption>>,
}

/// What another processor does while this one is at work.
struct Interruption {
    lookups_left: usize,
    run: Box<dyn FnOnce()>,
}

impl HostTables {
    pub fn new() -> Self {
        Self {
            v4: FamilyTables::new(),
            v6: FamilyTables::new(),
            slots: HostMap::new(),
            service_lookups: Cell::new(0),
            interruption: RefCell::new(None),
        }
    }

    /// Has `run` happen after so many lookups of flows.
    pub fn interrupt(&self, lookups: usize, run: impl FnOnce() + 'static) {
        *self.interruption.borrow_mut() = Some(Interruption {
            lookups_left: lookups,
            run: Box::new(run),
        });
    }

    /// Whether that has happened.
    pub fn interrupted(&self) -> bool {
        self.interruption.borrow().is_none()
    }

    fn looked_up_a_flow(&self) {
        let due = self.interruption.borrow_mut().take_if(|interruption| {
            interruption.lookups_left = interruption.lookups_left.saturating_sub(1);
            interruption.lookups_left == 0
        });
        if let Some(interruption) = due {
            (interruption.run)();
        }
    }
}

/// An address that knows its half of the tables.
pub trait Side: Address {
    fn bytes(octets: &Self::Octets) -> &[u8];
    fn of(tables: &HostTables) -> &FamilyTables<Self>;
    fn from_ip(ip: IpAddr) -> Self;
    fn ip(self) -> IpAddr;
}

impl Side for V4Addr {
    fn bytes(octets: &[u8; 4]) -> &[u8] {
        octets
    }

    fn of(tables: &HostTables) -> &FamilyTables<Self> {
        &tables.v4
    }

    fn from_ip(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self { octets: ip.octets() },
            IpAddr::V6(ip) => panic!("{ip} is not IPv4"),
        }
    }

    fn ip(self) -> IpAddr {
        self.octets.into()
    }
}

impl Side for V6Addr {
    fn bytes(octets: &[u8; 16]) -> &[u8] {
        octets
    }

    fn of(tables: &HostTables) -> &FamilyTables<Self> {
        &tables.v6
    }

    fn from_ip(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V6(ip) => Self { octets: ip.octets() },
            IpAddr::V4(ip) => panic!("{ip} is not IPv6"),
        }
    }

    fn ip(self) -> IpAddr {
        self.octets.into()
    }
}

/// Whether two addresses have their first `length` bits in common.
fn within(address: &[u8], network: &[u8], length: u32) -> bool {
    let (whole, rest) = (length as usize / 8, length % 8);
    address[..whole] == network[..whole] && (rest == 0 || (address[whole] ^ network[whole]) >> (8 - rest) == 0)
}

impl<A: Side> Tables<A> for HostTables {
    fn flow(&self, table: Table, key: &FlowKey<A>) -> Option<&Live<FlowEntry<A>>> {
        let entry = A::of(self).table(table).get(key);
        self.looked_up_a_flow();
        entry
    }

    fn set_flow(&self, table: Table, key: &FlowKey<A>, entry: &FlowEntry<A>) -> bool {
        A::of(self).table(table).insert(*key, Live::new(*entry))
    }

    fn promote_flow(&self, key: &FlowKey<A>, entry: &Live<FlowEntry<A>>) -> bool {
        let maps = A::of(self);
        let inserted = maps.flows.insert(*key, Live::new(super::node::snapshot(entry)));
        if inserted {
            maps.pending.remove(key);
        }
        inserted
    }

    fn forget_flow(&self, table: Table, key: &FlowKey<A>) {
        A::of(self).table(table).remove(key);
    }

    fn service(&self, key: &ServiceKey<A>) -> Option<&ServiceEntry> {
        self.service_lookups.set(self.service_lookups.get() + 1);
        A::of(self).services.get(key)
    }

    fn opening(&self) -> Option<&mut Opening<A>> {
        // SAFETY: one packet at a time is at work, and its steps take turns.
        Some(unsafe { &mut *A::of(self).opening.get() })
    }

    fn opened(&self) -> Option<&Live<FlowEntry<A>>> {
        // SAFETY: as above, and it has been opened by now; `Live` has the layout of what it wraps.
        Some(unsafe { &*(&raw mut (*A::of(self).opening.get()).entry).cast() })
    }

    fn known(&self) -> Option<&Known> {
        // All of them: what the kernel saves itself is looked up here.
        static ALL: Known = [u64::MAX; WORDS as usize];
        Some(&ALL)
    }

    fn network(&self, address: &A) -> Option<Network> {
        let networks = A::of(self).networks.borrow();
        let octets = address.octets();
        let holding = networks
            .iter()
            .filter(|(network, length, _)| within(A::bytes(&octets), A::bytes(network), *length));
        holding
            .max_by_key(|(_, length, _)| *length)
            .map(|(_, _, network)| *network)
    }

    fn in_source_ranges(&self, service: u32, client: &A) -> bool {
        let octets = client.octets();
        A::of(self)
            .source_ranges
            .borrow()
            .iter()
            .any(|(of, network, length)| *of == service && within(A::bytes(&octets), A::bytes(network), *length))
    }

    fn config(&self) -> Option<&Config<A>> {
        A::of(self).config.get(&())
    }

    fn fragment(&self, key: &FragmentKey<A>) -> Option<FragmentPorts> {
        A::of(self).fragments.get(key).copied()
    }

    fn set_fragment(&self, key: &FragmentKey<A>, ports: FragmentPorts) {
        A::of(self).fragments.insert(*key, ports);
    }

    fn slot(&self, index: u32) -> Option<u32> {
        self.slots.get(&index).copied()
    }

    fn backend(&self, key: &BackendKey) -> Option<&Backend<A>> {
        A::of(self).backends.get(key)
    }

    fn affinity(&self, key: &AffinityKey<A>) -> Option<&Live<AffinityEntry>> {
        A::of(self).affinity.get(key)
    }

    fn set_affinity(&self, key: &AffinityKey<A>, entry: &AffinityEntry) {
        A::of(self).affinity.insert(*key, Live::new(*entry));
    }

    fn socket(&self, key: &SocketKey<A>) -> Option<SocketPeer<A>> {
        A::of(self).sockets.get(key).copied()
    }

    fn set_socket(&self, key: &SocketKey<A>, peer: &SocketPeer<A>) {
        A::of(self).sockets.insert(*key, *peer);
    }
}
