//! One address family of the model to its entries, backends and slots.
//!
//! In come the model and the current maps; out go the wanted maps of the family, while the slots and the fresh
//! numbers, which the families share, collect in the [`Planner`].

use std::{collections::BTreeMap, sync::Arc};

use svcproxy_common::{
    abi::{Backend, BackendKey, ServiceEntry, ServiceKey},
    maglev::{self, Candidate, table_length},
};

use super::{
    Limits,
    contents::{FamilyMaps, MapAddress, MapContents},
    error::PlanError,
    numbers::{EndpointNumbers, Fresh},
    regions::FreeSlots,
};
use crate::model::{Endpoint, Model, Service, ServicePort};

/// What planning one family leaves for the next.
pub(super) struct Planner<'a> {
    current: &'a MapContents,
    limits: &'a Limits,
    sets: Fresh,
    endpoints: Fresh,
    free: FreeSlots,
    slots: Vec<(u32, Arc<[u32]>)>,
    missing_slots: u64,
}

/// An endpoint of a set under construction.
struct Member<A> {
    number: u32,
    ordinal: u32,
    backend: Backend<A>,
}

impl<'a> Planner<'a> {
    /// A planner that gives out what `current` does not use.
    pub(super) fn new(current: &'a MapContents, limits: &'a Limits) -> Self {
        let sets = current.entries().map(|entry| entry.endpoint_set);
        Self {
            current,
            limits,
            sets: Fresh::besides(sets.chain(current.backend_keys().map(|key| key.endpoint_set))),
            endpoints: Fresh::besides(current.backend_keys().map(|key| key.endpoint)),
            free: FreeSlots::beside(current.entries(), limits.backend_slots),
            slots: Vec::new(),
            missing_slots: 0,
        }
    }

    /// The wanted maps of one family; `numbers` are those of the Services.
    pub(super) fn family<A: MapAddress>(&mut self, model: &Model, numbers: &[u32]) -> Result<FamilyMaps<A>, PlanError> {
        let mut entries = Vec::with_capacity(model.services.len());
        let mut backends = Vec::with_capacity(A::maps(self.current).backends.len());
        for (service, number) in model.services.iter().zip(numbers) {
            self.service(service, *number, &mut entries, &mut backends)?;
        }
        let services: BTreeMap<_, _> = entries.iter().copied().collect();
        if services.len() < entries.len() {
            return Err(conflict(model, numbers, entries));
        }
        Ok(FamilyMaps {
            services,
            backends: backends.into_iter().collect(),
        })
    }

    /// The wanted slots of all families planned, or how many found no room.
    pub(super) fn slots(self) -> Result<BTreeMap<u32, Arc<[u32]>>, PlanError> {
        let limit = self.limits.backend_slots;
        match self.missing_slots {
            0 => Ok(self.slots.into_iter().collect()),
            missing => Err(PlanError::OutOfSlots {
                missing,
                limit,
                suggestion: (u64::from(limit) + missing).next_power_of_two(),
            }),
        }
    }

    fn service<A: MapAddress>(
        &mut self,
        service: &Service,
        number: u32,
        entries: &mut Vec<(ServiceKey<A>, ServiceEntry)>,
        backends: &mut Vec<(BackendKey, Backend<A>)>,
    ) -> Result<(), PlanError> {
        let maps = A::maps(self.current);
        for address in service.cluster_ips.iter().filter_map(|ip| A::from_ip(*ip)) {
            let existing: BTreeMap<_, _> = maps.at(address).collect();
            let own_sets = existing
                .values()
                .filter(|entry| entry.service == number)
                .map(|entry| entry.endpoint_set);
            let mut numbers = EndpointNumbers::in_sets(maps, own_sets);
            for port in &service.ports {
                let key = ServiceKey {
                    address,
                    port: port.port.into(),
                    protocol: port.protocol,
                };
                let old = existing.get(&key).copied();
                let endpoint_set = old.map_or_else(|| self.sets.take(), |old| old.endpoint_set);
                let members = self.members(port, &mut numbers);
                let (slot_offset, slot_count) = self.table(service, port, old, &members)?;
                backends.extend(members.iter().map(|member| {
                    let endpoint = member.number;
                    (BackendKey { endpoint_set, endpoint }, member.backend)
                }));
                let entry = ServiceEntry {
                    service: number,
                    endpoint_set,
                    slot_offset,
                    slot_count,
                    affinity_seconds: service.affinity_seconds.unwrap_or(0),
                };
                entries.push((key, entry));
            }
        }
        Ok(())
    }

    /// The endpoints that may be chosen, with their numbers, by address and port.
    fn members<A: MapAddress>(&mut self, port: &ServicePort, numbers: &mut EndpointNumbers<A>) -> Vec<Member<A>> {
        let mut backends: Vec<_> = eligible(port)
            .map(|(address, endpoint)| Backend {
                address,
                port: endpoint.port.into(),
                protocol: port.protocol,
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

    /// Offset and length of the region for these endpoints: the present one if it is for the same, else a fresh one.
    fn table<A: MapAddress>(
        &mut self,
        service: &Service,
        port: &ServicePort,
        old: Option<&ServiceEntry>,
        members: &[Member<A>],
    ) -> Result<(u32, u32), PlanError> {
        let length = table_length(members.len()).ok_or_else(|| PlanError::TooManyEndpoints {
            service: service.name.clone(),
            port: port.port,
            protocol: port.protocol,
            endpoints: members.len(),
        })?;
        if length == 0 {
            return Ok((0, 0));
        }
        if let Some(old) = old.filter(|old| old.slot_count == length)
            && let Some(region) = self.region_to_keep(old, members)
        {
            self.slots.push((old.slot_offset, region));
            return Ok((old.slot_offset, length));
        }
        let Some(offset) = self.free.take(length) else {
            self.missing_slots += u64::from(length);
            return Ok((0, 0));
        };
        let mut candidates: Vec<_> = members
            .iter()
            .map(|member| Candidate::new(&member.backend.address, member.ordinal, member.number))
            .collect();
        let mut region = vec![0; length as usize];
        maglev::fill(&mut candidates, &mut region);
        self.slots.push((offset, region.into()));
        Ok((offset, length))
    }

    /// The region of an entry, if it is the table of exactly these endpoints.
    ///
    /// That the backends are the same does not suffice: an interrupted update may have written the backends and not
    /// yet the table. A table holds no endpoint that is not among the backends, so it only needs to hold all of them.
    fn region_to_keep<A: MapAddress>(&self, old: &ServiceEntry, members: &[Member<A>]) -> Option<Arc<[u32]>> {
        let region = self.current.slots.get(&old.slot_offset)?;
        let mut wanted: Vec<_> = members
            .iter()
            .map(|member| (member.number, member.backend.address))
            .collect();
        wanted.sort_unstable();
        let present = A::maps(self.current)
            .set(old.endpoint_set)
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

/// The endpoints of one family that new connections may go to: the ready ones, or, when there are none, those that
/// serve while they terminate.
fn eligible<A: MapAddress>(port: &ServicePort) -> impl Iterator<Item = (A, &Endpoint)> {
    let in_family = || {
        port.endpoints
            .iter()
            .filter_map(|endpoint| Some((A::from_ip(endpoint.address)?, endpoint)))
    };
    let any_ready = in_family().any(|(_, endpoint)| endpoint.ready);
    in_family().filter(move |(_, endpoint)| match any_ready {
        true => endpoint.ready,
        false => endpoint.serving && endpoint.terminating,
    })
}

/// Names the first key that two entries share, and their Services.
fn conflict<A: MapAddress>(
    model: &Model,
    numbers: &[u32],
    mut entries: Vec<(ServiceKey<A>, ServiceEntry)>,
) -> PlanError {
    entries.sort_by_key(|(key, _)| *key);
    let name = |entry: ServiceEntry| {
        let index = numbers.iter().position(|number| *number == entry.service);
        Box::new(
            model.services[index.expect("entries carry the numbers given")]
                .name
                .clone(),
        )
    };
    let mut pairs = entries.array_windows();
    let [(key, first), (_, second)] = *pairs
        .find(|[one, next]| one.0 == next.0)
        .expect("two entries have one key");
    PlanError::Conflict {
        address: key.address.socket(key.port),
        protocol: key.protocol,
        first: name(first),
        second: name(second),
    }
}
