//! One address family of the model to its entries, backends and slots.
//!
//! In come the model and the current maps; out go the wanted maps of the family, while the slots and the fresh
//! numbers, which the families share, collect in the [`Planner`].

use std::{collections::BTreeMap, sync::Arc};

use svcproxy_common::abi::{Backend, BackendKey, Empty, EndpointSet, ServiceEntry, ServiceKey, SourceRange, Way};

use super::{
    Limits,
    contents::{FamilyMaps, MapAddress, MapContents, Prefix, sets_of},
    entries::{Masquerade, NO_SET, distinct, other_port},
    error::PlanError,
    networks,
    numbers::{EndpointNumbers, Fresh},
    regions::FreeSlots,
    sets::ServiceSets,
    ways::{Entrance, Role, entrances, roles},
};
use crate::model::{Model, NodePolicy, Service, ServicePort, cluster_set, local_set};

/// What planning one family leaves for the next.
pub(super) struct Planner<'a> {
    pub(super) current: &'a MapContents,
    pub(super) limits: &'a Limits,
    pub(super) sets: Fresh<'a>,
    pub(super) endpoints: Fresh<'a>,
    pub(super) free: FreeSlots,
    pub(super) slots: Vec<(u32, Arc<[u32]>)>,
    pub(super) missing_slots: u64,
}

/// What a family is planned from, and what has been planned of it.
struct Draft<'m, A: MapAddress> {
    model: &'m Model,
    policy: &'m NodePolicy,
    knows_pods: bool,
    node_port_addresses: Vec<A>,
    entries: Vec<(ServiceKey<A>, ServiceEntry)>,
    backends: Vec<(BackendKey, Backend<A>)>,
    source_ranges: Vec<(Prefix<SourceRange<A>>, u32)>,
}

impl<'a> Planner<'a> {
    /// A planner that gives out what `current` does not use.
    pub(super) fn new(current: &'a MapContents, limits: &'a Limits) -> Self {
        let sets = move || current.entries().flat_map(sets_of);
        let backends = move || current.backend_keys();
        let in_use = move || {
            let numbers = sets().map(|set| set.number);
            numbers.chain(backends().map(|key| key.endpoint_set))
        };
        Self {
            current,
            limits,
            sets: Fresh::besides(in_use),
            endpoints: Fresh::besides(move || backends().map(|key| key.endpoint)),
            free: FreeSlots::beside(sets(), limits.backend_slots),
            slots: Vec::new(),
            missing_slots: 0,
        }
    }

    /// The wanted maps of one family; `numbers` are those of the Services.
    pub(super) fn family<A: MapAddress>(
        &mut self,
        model: &Model,
        policy: &NodePolicy,
        numbers: &[u32],
    ) -> Result<FamilyMaps<A>, PlanError> {
        let mut draft = Draft {
            model,
            policy,
            knows_pods: networks::knows_pods(policy, A::FAMILY),
            node_port_addresses: networks::node_port_addresses(&model.node, policy),
            entries: Vec::with_capacity(A::maps(self.current).services.len()),
            backends: Vec::with_capacity(A::maps(self.current).backends.len()),
            source_ranges: Vec::new(),
        };
        for (service, number) in model.services.iter().zip(numbers) {
            self.service(service, *number, &mut draft)?;
        }
        Ok(FamilyMaps {
            services: distinct(model, numbers, draft.entries)?,
            backends: draft.backends.into_iter().collect(),
            networks: networks::networks::<A>(model, policy),
            source_ranges: draft.source_ranges.into_iter().collect(),
            config: Some(networks::config(&model.node, policy)),
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
        draft: &mut Draft<'_, A>,
    ) -> Result<(), PlanError> {
        let cluster_ips = || service.cluster_ips.iter().filter_map(|ip| A::from_ip(*ip));
        if cluster_ips().next().is_none() {
            return Ok(());
        }
        let maps = A::maps(self.current);
        let own = |(_, entry): &(&ServiceKey<A>, &ServiceEntry)| entry.service == number;
        let at_cluster_ips: Vec<_> = cluster_ips().flat_map(|address| maps.at(address)).filter(own).collect();
        let current = |entrance: &Entrance<A>| match entrance.way {
            Way::CLUSTER_IP => at_cluster_ips.iter().copied().find(|(key, _)| **key == entrance.key),
            _ => maps.services.get_key_value(&entrance.key).filter(own),
        };
        let mut known: Vec<u32> = at_cluster_ips
            .iter()
            .flat_map(|(_, entry)| sets_of(entry))
            .map(|set| set.number)
            .collect();
        let ports: Vec<_> = service
            .ports
            .iter()
            .map(|port| {
                let entrances = entrances(service, port, &draft.node_port_addresses);
                let olds: Vec<_> = entrances.iter().map(|entrance| Some(current(entrance)?.1)).collect();
                known.extend(olds.iter().flatten().flat_map(|old| sets_of(old)).map(|set| set.number));
                (port, entrances, olds)
            })
            .collect();
        known.sort_unstable();
        known.dedup();

        let source_ranges = match service.load_balancer_ips.is_empty() || service.ports.is_empty() {
            true => None,
            false => networks::source_ranges::<A>(service, &draft.model.node),
        };
        let filtered = source_ranges.is_some();
        let ranges = source_ranges.into_iter();
        draft
            .source_ranges
            .extend(ranges.flat_map(|prefixes| networks::source_range_keys(number, prefixes)));
        let mut sets = ServiceSets {
            numbers: EndpointNumbers::in_sets(maps, known.into_iter()),
            taken: Vec::new(),
            backends: &mut draft.backends,
        };
        let masquerade = Masquerade {
            service,
            policy: draft.policy,
            knows_pods: draft.knows_pods,
        };
        for (port, entrances, olds) in &ports {
            let choice = self.choice(draft.model, service, port, entrances, olds, &mut sets)?;
            draft.entries.extend(entrances.iter().map(|entrance| {
                let (outside, inside) = roles(service, entrance.way);
                let [masquerade_outside, masquerade_pods, masquerade_node] = masquerade.of(entrance.way);
                let entry = ServiceEntry {
                    service: number,
                    affinity_seconds: service.affinity_seconds.unwrap_or(0),
                    outside: choice.of(outside),
                    inside: choice.of(inside),
                    way: entrance.way,
                    filtered: filtered && entrance.way == Way::LOAD_BALANCER,
                    masquerade_outside,
                    masquerade_pods,
                    masquerade_node,
                    reserved: [0; 3],
                };
                (entrance.key, entry)
            }));
        }
        draft
            .entries
            .extend(cluster_ips().map(|address| other_port(address, number)));
        Ok(())
    }

    /// The sets that the entrances of a ServicePort lead to.
    fn choice<A: MapAddress>(
        &mut self,
        model: &Model,
        service: &Service,
        port: &ServicePort,
        entrances: &[Entrance<A>],
        olds: &[Option<&ServiceEntry>],
        sets: &mut ServiceSets<'_, A>,
    ) -> Result<Choice, PlanError> {
        // External ways first: where both sets are in use, their entries tell the two apart.
        let external = |entrance: &Entrance<A>| entrance.way != Way::CLUSTER_IP;
        let pairs = || entrances.iter().zip(olds);
        let in_order = || {
            pairs()
                .filter(|(e, _)| external(e))
                .chain(pairs().filter(|(e, _)| !external(e)))
        };
        let olds_of = |role: Role| -> Vec<EndpointSet> {
            let sides = in_order().filter_map(|(entrance, old)| Some((roles(service, entrance.way), (*old)?)));
            let of_role = sides.flat_map(|((outside, inside), old)| [(outside, old.outside), (inside, old.inside)]);
            of_role.filter(|(side, _)| *side == role).map(|(_, set)| set).collect()
        };
        let uses = |role| {
            let mut ways = entrances.iter().map(|entrance| roles(service, entrance.way));
            ways.any(|(outside, inside)| outside == role || inside == role)
        };
        let all = cluster_set(port, A::FAMILY, &model.node);
        let mut choice = Choice {
            cluster: NO_SET,
            local: NO_SET,
        };
        if uses(Role::Cluster) {
            choice.cluster = self.set(
                (service, port),
                all.endpoints(),
                &olds_of(Role::Cluster),
                Empty::REJECT,
                sets,
            )?;
        }
        if uses(Role::Local) {
            let local = local_set(port, A::FAMILY, &model.node);
            // Silence is for what a policy leaves out; where nobody serves, the client shall know.
            let empty = if all.is_empty() { Empty::REJECT } else { Empty::DROP };
            choice.local = self.set((service, port), local.endpoints(), &olds_of(Role::Local), empty, sets)?;
        }
        Ok(choice)
    }
}

/// The sets of a ServicePort.
struct Choice {
    cluster: EndpointSet,
    local: EndpointSet,
}

impl Choice {
    fn of(&self, role: Role) -> EndpointSet {
        match role {
            Role::Cluster => self.cluster,
            Role::Local => self.local,
        }
    }
}
