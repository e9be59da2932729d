//! The bit map of addresses that can matter ([`svcproxy_common::known`]): bits are set before what they stand for is
//! put into another map, and cleared some time after nothing stands for them any more.

use aya::Pod;
use ipnet::IpNet;
use svcproxy_common::{
    abi::{FlowEntry, FlowKey, Network, NetworkAddress, ServiceKey, SourceRange},
    known::{self, Bit, WORDS},
};

use super::{DatapathError, Family, MapKeys, Maps, entries, maps::prefixes, shared::SharedArray};
use crate::plan::{FamilyStep, MapAddress, Prefix, Step};

type Result<T> = std::result::Result<T, DatapathError>;

/// The map, and what it holds.
pub(super) struct Known {
    map: SharedArray<u64>,
    words: Vec<u64>,
    /// Whether bits may be set that stand for nothing any more.
    outdated: bool,
}

impl Known {
    /// Over the map as it is.
    pub(super) fn new(map: SharedArray<u64>) -> Result<Self> {
        let words = map.window(0..WORDS)?;
        Ok(Self {
            words: (0..WORDS).map(|index| words.get(index)).collect(),
            map,
            outdated: false,
        })
    }

    /// Sets the bits of what a step is about to put.
    pub(super) fn learn(&mut self, step: &Step) -> Result<()> {
        let mut words = self.words.clone();
        let deletes = match step {
            Step::V4(step) => learn(step, &mut words),
            Step::V6(step) => learn(step, &mut words),
            Step::WriteSlots(_) => return Ok(()),
        };
        self.outdated |= deletes;
        self.write(words)
    }

    fn write(&mut self, words: Vec<u64>) -> Result<()> {
        if words != self.words {
            let shared = self.map.window(0..WORDS)?;
            for ((index, new), old) in (0..).zip(&words).zip(&self.words) {
                if new != old {
                    shared.set(index, *new);
                }
            }
            self.words = words;
        }
        Ok(())
    }
}

impl Maps {
    /// Clears the bits that stand for nothing any more, if something has been deleted since.
    pub(super) fn forget_unknown(&mut self) -> Result<()> {
        if !self.known.outdated {
            return Ok(());
        }
        let mut words = vec![0; WORDS as usize];
        self.v4.all_known(&mut words)?;
        self.v6.all_known(&mut words)?;
        self.known.write(words)?;
        self.known.outdated = false;
        Ok(())
    }
}

impl<A: MapKeys + MapAddress> Family<A>
where
    ServiceKey<A>: Pod,
    svcproxy_common::abi::Backend<A>: Pod,
    FlowKey<A>: Pod,
    FlowEntry<A>: Pod,
    NetworkAddress<A>: Pod,
    SourceRange<A>: Pod,
{
    /// Sets the bits of everything there is. A connection that is opened meanwhile is to a Service and an endpoint.
    fn all_known(&self, words: &mut [u64]) -> Result<()> {
        for (key, _) in entries(&self.services, "services")? {
            set(words, known::address(&key.address));
        }
        for (_, backend) in entries(&self.backends, "backends")? {
            set(words, known::address(&backend.address));
        }
        for (prefix, network) in prefixes(&self.networks, "networks")? {
            set_network::<A>(words, &prefix, network);
        }
        for (table, name) in [(&self.flows, "flows"), (&self.pending, "pending")] {
            for (key, entry) in entries(table, name)? {
                let ours = if entry.state.is_reply() { key.src } else { key.dst };
                set(words, known::address(&ours));
            }
        }
        Ok(())
    }
}

/// Sets the bits of what a step puts; true when it deletes instead.
fn learn<A: MapAddress>(step: &FamilyStep<A>, words: &mut [u64]) -> bool {
    match step {
        FamilyStep::PutServices(entries) => {
            for (key, _) in entries {
                set(words, known::address(&key.address));
            }
        }
        FamilyStep::PutBackends(entries) => {
            for (_, backend) in entries {
                set(words, known::address(&backend.address));
            }
        }
        FamilyStep::PutNetworks(entries) => {
            for (prefix, network) in entries {
                set_network::<A>(words, prefix, *network);
            }
        }
        FamilyStep::DeleteServices(_) | FamilyStep::DeleteBackends(_) | FamilyStep::DeleteNetworks(_) => return true,
        FamilyStep::SetConfig(_) | FamilyStep::PutSourceRanges(_) | FamilyStep::DeleteSourceRanges(_) => {}
    }
    false
}

/// Sets the bits of a network whose addresses are the Services'.
fn set_network<A: MapAddress>(words: &mut [u64], prefix: &Prefix<NetworkAddress<A>>, network: Network) {
    /// A network of more parts than this has all bits set: every address is known.
    const MOST: u32 = 16;

    let length = A::NETWORK_BITS as u8;
    let Some(range) = prefix.network::<A>().filter(|_| network == Network::SERVICES) else {
        return;
    };
    if u32::from(length) > prefix.length + MOST {
        words.fill(u64::MAX);
        return;
    }
    let parts: Vec<IpNet> = match range.subnets(length) {
        Ok(parts) => parts.collect(),
        Err(_) => vec![range], // narrower than a part
    };
    for address in parts.iter().filter_map(|part| A::from_ip(part.network())) {
        set(words, known::network(&address));
    }
}

fn set(words: &mut [u64], (word, mask): Bit) {
    words[word as usize] |= mask;
}

#[cfg(test)]
mod tests {
    use svcproxy_common::abi::{V4Addr, V6Addr};

    use super::*;

    fn known_in<A: MapAddress>(range: &str, addresses: &[&str]) -> Vec<bool> {
        let mut words = vec![0; WORDS as usize];
        let prefix = A::prefix(range.parse().unwrap()).unwrap();
        set_network::<A>(&mut words, &prefix, Network::SERVICES);
        let known = |address: &&str| {
            let (word, mask) = known::network(&A::from_ip(address.parse().unwrap()).unwrap());
            words[word as usize] & mask != 0
        };
        addresses.iter().map(known).collect()
    }

    #[test]
    fn all_addresses_of_a_range_are_known_and_few_others() {
        let ours = [
            "10.96.0.0",
            "10.96.0.1",
            "10.111.255.255",
            "10.112.0.0",
            "10.95.255.255",
            "192.0.2.1",
        ];
        assert_eq!(
            known_in::<V4Addr>("10.96.0.0/12", &ours),
            [true, true, true, false, false, false]
        );
        assert_eq!(
            known_in::<V4Addr>("10.96.7.0/24", &["10.96.7.9", "10.97.7.9"]),
            [true, false]
        );
        assert_eq!(
            known_in::<V4Addr>("10.96.0.1/32", &["10.96.0.1", "10.97.0.1"]),
            [true, false]
        );
        let ours = ["fd00:10:96::1", "fd00:10:96::ffff:ffff", "fd00:10:97::1"];
        assert_eq!(known_in::<V6Addr>("fd00:10:96::/112", &ours), [true, true, false]);
        assert_eq!(
            known_in::<V6Addr>("fd00::/16", &["fd00::1", "2001:db8::1"]),
            [true, true],
            "all"
        );
    }
}
