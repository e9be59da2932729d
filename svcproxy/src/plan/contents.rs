//! What the maps hold, as plain sorted collections: read back from the kernel, planned, compared and printed alike.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;
use svcproxy_common::abi::{
    Address, Backend, BackendKey, Config, EndpointSet, Network, NetworkAddress, Protocol, ServiceEntry, ServiceKey,
    SourceRange, V4Addr, V6Addr,
};

use crate::model::Family;

/// Contents of the maps that the control plane writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MapContents {
    /// The maps of IPv4.
    pub v4: FamilyMaps<V4Addr>,
    /// The maps of IPv6.
    pub v6: FamilyMaps<V6Addr>,
    /// `backend_slots`: by offset, the region of every set of a services entry that has slots, and nothing else.
    ///
    /// Shared, because most regions pass from the current contents into the wanted ones as they are.
    pub slots: BTreeMap<u32, Arc<[u32]>>,
}

impl MapContents {
    /// The addresses of all endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.v4.backends.values().map(|backend| backend.address.ip());
        v4.chain(self.v6.backends.values().map(|backend| backend.address.ip()))
    }
}

/// Contents of the maps of one address family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyMaps<A: Address> {
    /// Where clients connect to.
    pub services: BTreeMap<ServiceKey<A>, ServiceEntry>,
    /// Where endpoints listen.
    pub backends: BTreeMap<BackendKey, Backend<A>>,
    /// What addresses belong to.
    pub networks: BTreeMap<Prefix<NetworkAddress<A>>, Network>,
    /// Which clients a filtered Service admits; every value is 1.
    pub source_ranges: BTreeMap<Prefix<SourceRange<A>>, u32>,
    /// What holds for the whole node; `None` when it was never written.
    pub config: Option<Config<A>>,
}

impl<A: Address> Default for FamilyMaps<A> {
    fn default() -> Self {
        Self {
            services: BTreeMap::new(),
            backends: BTreeMap::new(),
            networks: BTreeMap::new(),
            source_ranges: BTreeMap::new(),
            config: None,
        }
    }
}

/// Key of an LPM trie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix<T> {
    /// What an address is compared with.
    pub data: T,
    /// In how many of its leading bits.
    pub length: u32,
}

impl<T: Copy> Prefix<T> {
    /// The network of a prefix of `networks_`.
    pub(crate) fn network<A: MapAddress<Octets = T>>(&self) -> Option<IpNet> {
        IpNet::new(A::from_octets(self.data).ip(), u8::try_from(self.length).ok()?).ok()
    }
}

/// The sets of a services entry: two, one, or for a cluster IP's other ports none.
pub fn sets_of(entry: &ServiceEntry) -> impl Iterator<Item = EndpointSet> {
    let outside = (entry.outside != entry.inside).then_some(entry.outside);
    [Some(entry.inside), outside]
        .into_iter()
        .flatten()
        .filter(|set| set.number != 0)
}

/// Puts entries into the place of others.
pub(super) fn replace<K: Ord, V>(map: &mut BTreeMap<K, V>, part: &BTreeMap<K, V>, new: BTreeMap<K, V>) {
    for key in part.keys() {
        map.remove(key);
    }
    map.extend(new);
}

impl MapContents {
    /// The entries of both families, without their keys.
    pub fn entries(&self) -> impl Iterator<Item = &ServiceEntry> {
        self.v4.services.values().chain(self.v6.services.values())
    }

    /// The networks of one family in which addresses belong to this.
    pub fn networks_of(&self, what: Network, family: Family) -> Vec<IpNet> {
        match family {
            Family::V4 => self.v4.networks_of(what),
            Family::V6 => self.v6.networks_of(what),
        }
    }

    /// The keys of the backends of both families.
    pub fn backend_keys(&self) -> impl Iterator<Item = &BackendKey> {
        self.v4.backends.keys().chain(self.v6.backends.keys())
    }
}

impl<A: MapAddress> FamilyMaps<A> {
    /// What is there of some Services, by number.
    pub(super) fn of_services(&self, numbers: &BTreeSet<u32>) -> Self {
        let services = self
            .services
            .iter()
            .filter(|(_, entry)| numbers.contains(&entry.service));
        let services: BTreeMap<_, _> = services.map(|(key, entry)| (*key, *entry)).collect();
        let sets = services.values().flat_map(sets_of).map(|set| set.number);
        let backends = sets.flat_map(|number| {
            let endpoints = self.set(number);
            endpoints.map(move |(endpoint, backend)| {
                let endpoint_set = number;
                (BackendKey { endpoint_set, endpoint }, *backend)
            })
        });
        let ranges = self
            .source_ranges
            .iter()
            .filter(|(prefix, _)| numbers.contains(&prefix.data.service));
        Self {
            backends: backends.collect(),
            source_ranges: ranges.map(|(prefix, value)| (*prefix, *value)).collect(),
            services,
            ..Self::default()
        }
    }

    /// Puts something into the place of a part.
    pub(super) fn replace(&mut self, part: &Self, new: Self) {
        replace(&mut self.services, &part.services, new.services);
        replace(&mut self.backends, &part.backends, new.backends);
        replace(&mut self.source_ranges, &part.source_ranges, new.source_ranges);
    }

    /// The entries at one address, by port and protocol.
    pub fn at(&self, address: A) -> impl Iterator<Item = (&ServiceKey<A>, &ServiceEntry)> {
        // No protocol sorts before it.
        let first = ServiceKey {
            address,
            port: 0,
            protocol: Protocol::ANY,
        };
        self.services
            .range(first..)
            .take_while(move |(key, _)| key.address == address)
    }

    fn networks_of(&self, what: Network) -> Vec<IpNet> {
        let networks = self.networks.iter().filter(|(_, network)| **network == what);
        networks.filter_map(|(prefix, _)| prefix.network::<A>()).collect()
    }

    /// The endpoints of one set, by number.
    pub fn set(&self, endpoint_set: u32) -> impl Iterator<Item = (u32, &Backend<A>)> {
        let key = |endpoint| BackendKey { endpoint_set, endpoint };
        self.backends
            .range(key(0)..=key(u32::MAX))
            .map(|(key, backend)| (key.endpoint, backend))
    }
}

/// An address as the maps hold it, and the way from and to the standard library's.
pub trait MapAddress: Address {
    /// The family.
    const FAMILY: Family;

    /// The address, if it is of this family.
    fn from_ip(address: IpAddr) -> Option<Self>;

    /// The address in the standard library's type.
    fn ip(self) -> IpAddr;

    /// The address of these octets.
    fn from_octets(octets: Self::Octets) -> Self;

    /// A network as a trie's key, if it is of this family.
    fn prefix(network: IpNet) -> Option<Prefix<Self::Octets>> {
        let address = Self::from_ip(network.network())?;
        Some(Prefix {
            data: address.octets(),
            length: network.prefix_len().into(),
        })
    }

    /// The address alone as a trie's key.
    fn host(self) -> Prefix<Self::Octets> {
        Prefix {
            data: self.octets(),
            length: size_of::<Self>() as u32 * 8,
        }
    }

    /// This family's part of the contents.
    fn maps(contents: &MapContents) -> &FamilyMaps<Self>;

    /// The address and a port, printed `10.0.0.1:80` or `[fd00::1]:80`.
    ///
    /// The maps hold ports in 32 bits; the upper half is always 0.
    fn socket(self, port: u32) -> SocketAddr {
        SocketAddr::new(self.ip(), port as u16)
    }
}

impl MapAddress for V4Addr {
    const FAMILY: Family = Family::V4;

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(Self {
                octets: address.octets(),
            }),
            IpAddr::V6(_) => None,
        }
    }

    fn ip(self) -> IpAddr {
        self.octets.into()
    }

    fn from_octets(octets: Self::Octets) -> Self {
        Self { octets }
    }

    fn maps(contents: &MapContents) -> &FamilyMaps<Self> {
        &contents.v4
    }
}

impl MapAddress for V6Addr {
    const FAMILY: Family = Family::V6;

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(Self {
                octets: address.octets(),
            }),
        }
    }

    fn ip(self) -> IpAddr {
        self.octets.into()
    }

    fn from_octets(octets: Self::Octets) -> Self {
        Self { octets }
    }

    fn maps(contents: &MapContents) -> &FamilyMaps<Self> {
        &contents.v6
    }
}
