//! The maps joined with the state file: which entries make up which Service, and who is behind them.
//!
//! In comes a [`Snapshot`], out goes every Service that stands in either, sorted by namespace and name. Entries that
//! no record claims make Services without a name, after the others.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
};

use svcproxy_common::abi::Way;

use super::{
    Snapshot,
    entries::{Endpoint, Entry, entries_of},
};
use crate::{
    model::{Protocol, ServiceName},
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
    /// Its cluster IPs, primary first.
    pub(super) cluster_ips: Vec<IpAddr>,
    /// Its external IPs.
    pub(super) external_ips: Vec<IpAddr>,
    /// Its load balancer's addresses.
    pub(super) load_balancer_ips: Vec<IpAddr>,
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
    /// Its nodePort.
    pub(super) node_port: Option<u16>,
    /// `TCP`, `UDP` or `SCTP`.
    pub(super) protocol: String,
    /// Those in its sets, by address.
    pub(super) endpoints: Vec<Endpoint>,
    /// The numbers of its sets.
    sets: Vec<u32>,
}

impl<'a> Directory<'a> {
    /// The directory of a snapshot.
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let families =
            entries_of(&snapshot.maps.v4, &snapshot.maps).chain(entries_of(&snapshot.maps.v6, &snapshot.maps));
        let mut by_number = BTreeMap::<u32, Vec<Entry>>::new();
        let mut by_cluster_ip = HashMap::<IpAddr, u32>::new();
        for entry in families {
            if matches!(entry.way, Way::CLUSTER_IP | Way::OTHER_PORT) {
                by_cluster_ip.insert(entry.address.ip(), entry.service);
            }
            by_number.entry(entry.service).or_default().push(entry);
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
            let numbers = service.cluster_ips.iter().filter_map(|ip| by_cluster_ip.get(ip));
            let own: Vec<_> = numbers
                .filter_map(|number| by_number.remove(number))
                .flatten()
                .collect();
            directory.add(service, own);
        }
        for nameless in by_number.into_values() {
            directory.add(Service::default(), nameless);
        }
        directory
    }

    fn add(&mut self, mut service: Service<'a>, mut entries: Vec<Entry>) {
        let index = self.services.len();
        // The primary family first; nodePorts last, when the ports they belong to are known.
        let primary = service.cluster_ips.first().map(IpAddr::is_ipv4);
        entries.sort_by_key(|entry| (entry.way == Way::NODE_PORT, Some(entry.address.is_ipv4()) != primary));
        for entry in entries {
            self.by_number.insert(entry.service, index);
            if entry.way != Way::OTHER_PORT {
                self.by_address.insert((entry.address, entry.protocol), index);
            }
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
            node_port: port.node_port,
            protocol: port.protocol.clone(),
            endpoints: Vec::new(),
            sets: Vec::new(),
        };
        Self {
            name: Some(ServiceName {
                namespace: namespace.into(),
                name: name.into(),
            }),
            record: Some(record),
            cluster_ips: record.cluster_ips.clone(),
            external_ips: record.external_ips.clone(),
            load_balancer_ips: record.load_balancer_ips.clone(),
            ports: record.ports.iter().map(port).collect(),
            affinity_seconds: 0,
        }
    }

    fn merge(&mut self, entry: Entry) {
        let (ip, number) = (entry.address.ip(), entry.address.port());
        let known = match entry.way {
            Way::CLUSTER_IP | Way::OTHER_PORT => Some(&mut self.cluster_ips),
            Way::EXTERNAL_IP => Some(&mut self.external_ips),
            Way::LOAD_BALANCER => Some(&mut self.load_balancer_ips),
            Way::NODE_PORT => None,
        };
        if let Some(known) = known.filter(|known| !known.contains(&ip)) {
            known.push(ip);
        }
        self.affinity_seconds = self.affinity_seconds.max(entry.affinity_seconds);
        let protocol = entry.protocol.to_string();
        match entry.way {
            Way::OTHER_PORT => {}
            Way::NODE_PORT => {
                let same = |port: &&mut Port| entry.sets.iter().any(|set| port.sets.contains(set));
                if let Some(port) = self.ports.iter_mut().find(same) {
                    port.node_port = Some(number);
                    port.merge(entry);
                }
            }
            Way::CLUSTER_IP | Way::EXTERNAL_IP | Way::LOAD_BALANCER => {
                let same = |port: &Port| port.port == number && port.protocol == protocol;
                let index = self.ports.iter().position(same).unwrap_or_else(|| {
                    self.ports.push(Port::unnamed(number, protocol));
                    self.ports.len() - 1
                });
                self.ports[index].merge(entry);
            }
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
    fn unnamed(port: u16, protocol: String) -> Self {
        Self {
            name: String::new(),
            port,
            node_port: None,
            protocol,
            endpoints: Vec::new(),
            sets: Vec::new(),
        }
    }

    fn merge(&mut self, entry: Entry) {
        self.sets.extend(entry.sets);
        for endpoint in entry.endpoints {
            if !self.endpoints.iter().any(|known| known.address == endpoint.address) {
                self.endpoints.push(endpoint);
            }
        }
    }

    /// `80/TCP`
    pub(super) fn number(&self) -> String {
        format!("{}/{}", self.port, self.protocol)
    }

    /// `80:30080/TCP`, as kubectl prints it.
    pub(super) fn with_node_port(&self) -> String {
        match self.node_port {
            None => self.number(),
            Some(node_port) => format!("{}:{node_port}/{}", self.port, self.protocol),
        }
    }
}
