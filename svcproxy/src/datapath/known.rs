//! The bit map of addresses that can matter ([`svcproxy_common::known`]): bits are set before what they stand for is
//! put into another map, and cleared some time after nothing stands for them any more.

use aya::Pod;
use svcproxy_common::{
    abi::{FlowEntry, FlowKey, NetworkAddress, ServiceKey, SourceRange},
    known::{self, Bit, WORDS},
};

use super::{DatapathError, Family, MapKeys, Maps, maps::visit, shared::SharedArray};
use crate::plan::{FamilyStep, MapAddress, Step};

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
        visit(&self.services, "services", |key, _| {
            set(words, known::bit(&key.address))
        })?;
        visit(&self.backends, "backends", |_, backend| {
            set(words, known::bit(&backend.address))
        })?;
        // In the direction in which a processor may be moving a connection.
        for (table, name) in [(&self.pending, "pending"), (&self.flows, "flows")] {
            visit(table, name, |key, entry| {
                let ours = if entry.state.is_reply() { key.src } else { key.dst };
                set(words, known::bit(&ours));
            })?;
        }
        Ok(())
    }
}

/// Sets the bits of what a step puts; true when it deletes instead.
fn learn<A: MapAddress>(step: &FamilyStep<A>, words: &mut [u64]) -> bool {
    match step {
        FamilyStep::PutServices(entries) => {
            for (key, _) in entries {
                set(words, known::bit(&key.address));
            }
        }
        FamilyStep::PutBackends(entries) => {
            for (_, backend) in entries {
                set(words, known::bit(&backend.address));
            }
        }
        FamilyStep::DeleteServices(_) | FamilyStep::DeleteBackends(_) => return true,
        FamilyStep::SetConfig(_)
        | FamilyStep::PutNetworks(_)
        | FamilyStep::DeleteNetworks(_)
        | FamilyStep::PutSourceRanges(_)
        | FamilyStep::DeleteSourceRanges(_) => {}
    }
    false
}

fn set(words: &mut [u64], (word, mask): Bit) {
    words[word as usize] |= mask;
}
