//! The maps joined with the state file: which entries make up which Service, and who is behind them.
//!
//! In comes a [`Snapshot`], out goes every Service that stands in either, sorted by namespace and name. Entries that
//! no record claims make Services without a name, after the others.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
};

use super::Snapshot;
use crate::{
    model::{Protocol, ServiceName},
    plan::{FamilyMaps, MapAddress, MapContents},
    state::ServiceRecord,
};

/// What stands for the name of a Service, or its age, that is in the maps but not in the state file.
pub(super) const UNKNOWN: &str = "<unknown>";

/// All Services, and the ways to find one.
pub(super) struct Directory<'a> {
    /// Sorted by namespace and name, nameless ones last.
    pub(super) services: Vec<Service<'a>>,
    by_address: HashMap<(SocketAddr, Protocol), usize>,
    by_number: HashMap<u32, usize>,
}

/// A Service as the maps and the state file have it.
#[derive(Default)]
pub(super) struct Service<'a> {
    /// `None` when the state file does not know it.
    pub(super) name: Option<ServiceName>,
    /// What the state file knows of it.
    pub(super) record: Option<&'a ServiceRecord>,
    /// Its addresses, primary first.
    pub(super) cluster_ips: Vec<IpAddr>,
    /// Its ports, in the manifest's order.
    pub(super) ports: Vec<Port>,
    /// Seconds of client affinity, 0 for none.
    pub(super) affinity_seconds: u32,
}

/// A ServicePort, both families in one.
pub(super) struct Port {
    /// Empty when it has none.
    pub(super) name: String,
    /// The port's number.
    pub(super) port: u16,
    /// `TCP` or `UDP`.
    pub(super) protocol: String,
    /// Those in the set, by address.
    pub(super) endpoints: Vec<Endpoint>,
}

/// An endpoint in a set.
#[derive(Clone)]
pub(super) struct Endpoint {
    /// Its number in the maps.
    pub(super) number: u32,
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Its part of the set's slots, of 1. `None` when the slots were not read.
    pub(super) share: Option<f64>,
}

/// An entry of `services_`, family forgotten.
struct Entry {
    address: SocketAddr,
    protocol: Protocol,
    service: u32,
    affinity_seconds: u32,
    endpoints: Vec<Endpoint>,
}

impl<'a> Directory<'a> {
    /// The directory of a snapshot.
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let mut entries = BTreeMap::<IpAddr, Vec<Entry>>::new();
        let families =
            entries_of(&snapshot.maps.v4, &snapshot.maps).chain(entries_of(&snapshot.maps.v6, &snapshot.maps));
        for entry in families {
            entries.entry(entry.address.ip()).or_default().push(entry);
        }
        let mut directory = Self {
            services: Vec::new(),
            by_address: HashMap::new(),
            by_number: HashMap::new(),
        };
        let records = snapshot.state.services.iter();
        let mut recorded: Vec<_> = records.map(|(name, record)| Service::recorded(name, record)).collect();
        recorded.sort_by(|one, other| one.name.cmp(&other.name));
        for service in recorded {
            let own: Vec<_> = service
                .cluster_ips
                .iter()
                .filter_map(|ip| entries.remove(ip))
                .flatten()
                .collect();
            directory.add(service, own);
        }
        let mut nameless = BTreeMap::<u32, Vec<Entry>>::new();
        for entry in entries.into_values().flatten() {
            nameless.entry(entry.service).or_default().push(entry);
        }
        for own in nameless.into_values() {
            directory.add(Service::default(), own);
        }
        directory
    }

    fn add(&mut self, mut service: Service<'a>, entries: impl IntoIterator<Item = Entry>) {
        let index = self.services.len();
        for entry in entries {
            self.by_address.insert((entry.address, entry.protocol), index);
            self.by_number.insert(entry.service, index);
            service.merge(entry);
        }
        self.services.push(service);
    }

    /// The Service with this address and port.
    pub(super) fn at(&self, address: SocketAddr, protocol: Protocol) -> Option<&Service<'a>> {
        Some(&self.services[*self.by_address.get(&(address, protocol))?])
    }

    /// The Service with this number in the maps.
    pub(super) fn numbered(&self, number: u32) -> Option<&Service<'a>> {
        Some(&self.services[*self.by_number.get(&number)?])
    }

    /// The Services of one namespace, or all.
    pub(super) fn of_namespace(&self, namespace: Option<&str>) -> impl Iterator<Item = &Service<'a>> {
        self.services.iter().filter(move |service| service.is_in(namespace))
    }
}

impl<'a> Service<'a> {
    fn recorded(name: &str, record: &'a ServiceRecord) -> Self {
        let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
        let port = |port: &crate::state::PortRecord| Port {
            name: port.name.clone(),
            port: port.port,
            protocol: port.protocol.clone(),
            endpoints: Vec::new(),
        };
        Self {
            name: Some(ServiceName {
                namespace: namespace.into(),
                name: name.into(),
            }),
            record: Some(record),
            cluster_ips: record.cluster_ips.clone(),
            ports: record.ports.iter().map(port).collect(),
            affinity_seconds: 0,
        }
    }

    fn merge(&mut self, entry: Entry) {
        if !self.cluster_ips.contains(&entry.address.ip()) {
            self.cluster_ips.push(entry.address.ip());
        }
        self.affinity_seconds = self.affinity_seconds.max(entry.affinity_seconds);
        let protocol = format!("{:?}", entry.protocol);
        let same = |port: &&mut Port| port.port == entry.address.port() && port.protocol == protocol;
        match self.ports.iter_mut().find(same) {
            Some(port) => port.endpoints.extend(entry.endpoints),
            None => self.ports.push(Port {
                name: String::new(),
                port: entry.address.port(),
                protocol,
                endpoints: entry.endpoints,
            }),
        }
    }

    /// Whether `-n` leaves it in.
    pub(super) fn is_in(&self, namespace: Option<&str>) -> bool {
        namespace.is_none_or(|namespace| self.name.as_ref().is_some_and(|name| name.namespace == namespace))
    }

    /// The name without its namespace.
    pub(super) fn short_name(&self) -> &str {
        self.name.as_ref().map_or(UNKNOWN, |name| &name.name)
    }

    /// The namespace.
    pub(super) fn namespace(&self) -> &str {
        self.name.as_ref().map_or(UNKNOWN, |name| &name.namespace)
    }

    /// `namespace/name`
    pub(super) fn qualified_name(&self) -> String {
        self.name.as_ref().map_or(UNKNOWN.to_owned(), ToString::to_string)
    }

    /// Name of the Pod at an address.
    pub(super) fn pod(&self, address: IpAddr) -> Option<&'a str> {
        self.record?.pods.get(&address).map(String::as_str)
    }

    /// The endpoint with this number, on whatever port.
    pub(super) fn endpoint(&self, number: u32) -> Option<&Endpoint> {
        self.ports
            .iter()
            .flat_map(|port| &port.endpoints)
            .find(|endpoint| endpoint.number == number)
    }
}

impl Port {
    /// `80/TCP`
    pub(super) fn number(&self) -> String {
        format!("{}/{}", self.port, self.protocol)
    }
}

fn entries_of<A: MapAddress>(maps: &FamilyMaps<A>, contents: &MapContents) -> impl Iterator<Item = Entry> {
    maps.services.iter().map(|(key, entry)| {
        let region = contents
            .slots
            .get(&entry.slot_offset)
            .filter(|region| region.len() == entry.slot_count as usize);
        let mut slots = HashMap::<u32, u32>::new();
        for slot in region.iter().flat_map(|region| region.iter()) {
            *slots.entry(*slot).or_default() += 1;
        }
        let share =
            |number| region.map(|_| f64::from(slots.get(&number).copied().unwrap_or(0)) / f64::from(entry.slot_count));
        let mut endpoints: Vec<_> = maps
            .set(entry.endpoint_set)
            .map(|(number, backend)| Endpoint {
                number,
                address: backend.address.socket(backend.port),
                share: share(number),
            })
            .collect();
        endpoints.sort_by_key(|endpoint| endpoint.address);
        Entry {
            address: key.address.socket(key.port),
            protocol: key.protocol,
            service: entry.service,
            affinity_seconds: entry.affinity_seconds,
            endpoints,
        }
    })
}
