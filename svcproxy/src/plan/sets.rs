//! The sets of endpoints of one ServicePort: their members, numbers and regions of slots.
//!
//! In comes a selection of endpoints and what the entries of the ServicePort point at now; out goes the set to point
//! at: the present one if it is of the same endpoints, else one with a fresh region.

use std::sync::Arc;

use svcproxy_common::{
    abi::{Backend, BackendKey, Empty, EndpointSet},
    maglev::{self, Candidate, table_length},
};

use super::{contents::MapAddress, error::PlanError, family::Planner, numbers::EndpointNumbers};
use crate::model::{Endpoint, Protocol, Service, ServicePort};

/// An endpoint of a set under construction.
pub(super) struct Member<A> {
    pub(super) number: u32,
    ordinal: u32,
    pub(super) backend: Backend<A>,
}

/// What the sets of one Service in one family share while they are planned.
pub(super) struct ServiceSets<'b, A> {
    pub(super) numbers: EndpointNumbers<A>,
    /// Numbers of sets given out.
    pub(super) taken: Vec<u32>,
    pub(super) backends: &'b mut Vec<(BackendKey, Backend<A>)>,
}

impl Planner<'_> {
    /// A set of `endpoints`. `olds` are the sets in the place of this one in the current entries of the ServicePort.
    pub(super) fn set<'e, A: MapAddress>(
        &mut self,
        (service, port): (&Service, &ServicePort),
        endpoints: impl Iterator<Item = &'e Endpoint>,
        olds: &[EndpointSet],
        empty: Empty,
        sets: &mut ServiceSets<'_, A>,
    ) -> Result<EndpointSet, PlanError> {
        let free = |old: &&EndpointSet| old.number != 0 && !sets.taken.contains(&old.number);
        let number = match olds.iter().find(free) {
            Some(old) => old.number,
            None => self.sets.take(),
        };
        sets.taken.push(number);
        let members = self.members(port.protocol, endpoints, &mut sets.numbers);
        let length = table_length(members.len()).ok_or_else(|| PlanError::TooManyEndpoints {
            service: service.name.clone(),
            port: port.port,
            protocol: port.protocol,
            endpoints: members.len(),
        })?;
        let slot_offset = match length {
            0 => 0,
            _ => self.region(length, number, olds, &members),
        };
        sets.backends.extend(members.iter().map(|member| {
            let key = BackendKey {
                endpoint_set: number,
                endpoint: member.number,
            };
            (key, member.backend)
        }));
        Ok(EndpointSet {
            number,
            slot_offset,
            slot_count: length,
            empty,
        })
    }

    /// The endpoints with their numbers, by address and port.
    fn members<'e, A: MapAddress>(
        &mut self,
        protocol: Protocol,
        endpoints: impl Iterator<Item = &'e Endpoint>,
        numbers: &mut EndpointNumbers<A>,
    ) -> Vec<Member<A>> {
        let mut backends: Vec<_> = endpoints
            .filter_map(|endpoint| {
                Some(Backend {
                    address: A::from_ip(endpoint.address)?,
                    port: endpoint.port.into(),
                    protocol,
                })
            })
            .collect();
        backends.sort_unstable_by_key(|backend| (backend.address, backend.port));
        let mut before = None;
        let member = |backend: Backend<A>| {
            let ordinal = match before {
                Some((address, ordinal)) if address == backend.address => ordinal + 1,
                _ => 0,
            };
            before = Some((backend.address, ordinal));
            Member {
                number: numbers.of(backend.address, ordinal, &mut self.endpoints),
                ordinal,
                backend,
            }
        };
        backends.into_iter().map(member).collect()
    }

    /// Offset of the region for these endpoints: a present one if it is for the same, else a fresh one.
    fn region<A: MapAddress>(&mut self, length: u32, number: u32, olds: &[EndpointSet], members: &[Member<A>]) -> u32 {
        let same = olds
            .iter()
            .filter(|old| old.number == number && old.slot_count == length);
        for old in same {
            if let Some(region) = self.region_to_keep(old, members) {
                self.slots.push((old.slot_offset, region));
                return old.slot_offset;
            }
        }
        let Some(offset) = self.free.take(length) else {
            self.missing_slots += u64::from(length);
            return 0;
        };
        let mut candidates: Vec<_> = members
            .iter()
            .map(|member| Candidate::new(&member.backend.address, member.ordinal, member.number))
            .collect();
        let mut region = vec![0; length as usize];
        maglev::fill(&mut candidates, &mut region);
        self.slots.push((offset, region.into()));
        offset
    }

    /// The region of a set, if it is the table of exactly these endpoints.
    ///
    /// That the backends are the same does not suffice: an interrupted update may have written the backends and not
    /// yet the table. A table holds no endpoint that is not among the backends, so it only needs to hold all of them.
    fn region_to_keep<A: MapAddress>(&self, old: &EndpointSet, members: &[Member<A>]) -> Option<Arc<[u32]>> {
        let region = self.current.slots.get(&old.slot_offset)?;
        let mut wanted: Vec<_> = members
            .iter()
            .map(|member| (member.number, member.backend.address))
            .collect();
        wanted.sort_unstable();
        let present = A::maps(self.current)
            .set(old.number)
            .map(|(number, backend)| (number, backend.address));
        if region.len() != old.slot_count as usize
            || old.slot_offset.checked_add(old.slot_count)? > self.limits.backend_slots
            || !present.eq(wanted.iter().copied())
        {
            return None;
        }
        let mut unseen = wanted.len();
        let mut seen = vec![false; wanted.len()];
        for slot in region.iter() {
            let index = wanted.binary_search_by_key(slot, |(number, _)| *number).ok()?;
            if !std::mem::replace(&mut seen[index], true) {
                unseen -= 1;
                if unseen == 0 {
                    return Some(region.clone());
                }
            }
        }
        None
    }
}
