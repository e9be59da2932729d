//! The maps as hash maps. What is stored is leaked, so that a reference stays good after its entry is gone, as in the
//! kernel, where the slot stays readable.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
};

use svcproxy_common::{
    Table, Tables,
    abi::{
        Address, AffinityEntry, AffinityKey, Backend, BackendKey, FlowEntry, FlowKey, ServiceEntry, ServiceKey, V4Addr,
        V6Addr,
    },
    flow::Live,
};

/// A map that takes `capacity` entries and then no more.
pub struct HostMap<K, V: 'static> {
    entries: RefCell<HashMap<K, &'static V>>,
    pub capacity: Cell<usize>,
}

impl<K: Eq + Hash + Copy, V> HostMap<K, V> {
    fn new() -> Self {
        Self {
            entries: RefCell::default(),
            capacity: Cell::new(usize::MAX),
        }
    }

    pub fn get(&self, key: &K) -> Option<&'static V> {
        self.entries.borrow().get(key).copied()
    }

    pub fn insert(&self, key: K, value: V) -> bool {
        let mut entries = self.entries.borrow_mut();
        let room = entries.len() < self.capacity.get() || entries.contains_key(&key);
        if room {
            entries.insert(key, Box::leak(Box::new(value)));
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
        let entries = self.entries.borrow();
        entries.iter().map(|(key, entry)| (*key, value(entry))).collect()
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
}

impl<A: Address> FamilyTables<A> {
    fn new() -> Self {
        Self {
            flows: HostMap::new(),
            pending: HostMap::new(),
            services: HostMap::new(),
            backends: HostMap::new(),
            affinity: HostMap::new(),
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
    fn of(tables: &HostTables) -> &FamilyTables<Self>;
    fn from_ip(ip: IpAddr) -> Self;
    fn ip(self) -> IpAddr;
}

impl Side for V4Addr {
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
}
