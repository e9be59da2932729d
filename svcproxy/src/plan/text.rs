//! The contents of the maps as text, for golden files, logs and people.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
};

use svcproxy_common::abi::{Backend, BackendKey, ServiceEntry, ServiceKey};

use super::{
    contents::{FamilyMaps, MapAddress, MapContents},
    diff::{Diff, FamilyStep, Step},
};

/// One line for each entry, sorted. A region prints as the share of each endpoint, with `{:#}` as every slot as well.
impl Display for MapContents {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        family("v4", &self.v4, f)?;
        family("v6", &self.v6, f)?;
        if !self.slots.is_empty() {
            writeln!(f, "backend_slots")?;
        }
        for (offset, region) in &self.slots {
            let mut shares = BTreeMap::<u32, usize>::new();
            for endpoint in region.iter() {
                *shares.entry(*endpoint).or_default() += 1;
            }
            write!(f, "  {offset}..{}:", *offset as usize + region.len())?;
            for (endpoint, share) in shares {
                write!(f, "  endpoint {endpoint} × {share}")?;
            }
            writeln!(f)?;
            if f.alternate() {
                for row in region.chunks(32) {
                    let row: Vec<_> = row.iter().map(u32::to_string).collect();
                    writeln!(f, "    {}", row.join(" "))?;
                }
            }
        }
        Ok(())
    }
}

/// One line for each write, in order.
impl Display for Diff {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            match step {
                Step::V4(step) => family_step(step, f)?,
                Step::V6(step) => family_step(step, f)?,
                Step::WriteSlots(runs) => {
                    for run in runs {
                        writeln!(
                            f,
                            "write slots {}..{}",
                            run.offset,
                            run.offset as usize + run.values.len()
                        )?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn family<A: MapAddress>(name: &str, maps: &FamilyMaps<A>, f: &mut Formatter<'_>) -> fmt::Result {
    if !maps.services.is_empty() {
        writeln!(f, "services_{name}")?;
    }
    for (key, entry) in &maps.services {
        writeln!(f, "  {}  {}", service_key(key), service_entry(entry))?;
    }
    if !maps.backends.is_empty() {
        writeln!(f, "backends_{name}")?;
    }
    for (key, value) in &maps.backends {
        writeln!(f, "  {}  {}", backend_key(key), backend(value))?;
    }
    Ok(())
}

fn family_step<A: MapAddress>(step: &FamilyStep<A>, f: &mut Formatter<'_>) -> fmt::Result {
    match step {
        FamilyStep::PutBackends(puts) => puts
            .iter()
            .try_for_each(|(key, value)| writeln!(f, "put backend {}  {}", backend_key(key), backend(value))),
        FamilyStep::PutServices(puts) => puts
            .iter()
            .try_for_each(|(key, value)| writeln!(f, "put {}  {}", service_key(key), service_entry(value))),
        FamilyStep::DeleteServices(keys) => keys
            .iter()
            .try_for_each(|key| writeln!(f, "delete {}", service_key(key))),
        FamilyStep::DeleteBackends(keys) => keys
            .iter()
            .try_for_each(|key| writeln!(f, "delete backend {}", backend_key(key))),
    }
}

fn service_key<A: MapAddress>(key: &ServiceKey<A>) -> String {
    format!("{}/{:?}", key.address.socket(key.port), key.protocol)
}

fn service_entry(entry: &ServiceEntry) -> String {
    let slots = match entry.slot_count {
        0 => "no slots".to_owned(),
        count => format!(
            "slots {}..{}",
            entry.slot_offset,
            u64::from(entry.slot_offset) + u64::from(count)
        ),
    };
    let affinity = match entry.affinity_seconds {
        0 => String::new(),
        seconds => format!(" affinity {seconds}s"),
    };
    format!("service {} set {} {slots}{affinity}", entry.service, entry.endpoint_set)
}

fn backend_key(key: &BackendKey) -> String {
    format!("set {} endpoint {}", key.endpoint_set, key.endpoint)
}

fn backend<A: MapAddress>(backend: &Backend<A>) -> String {
    format!("{}/{:?}", backend.address.socket(backend.port), backend.protocol)
}
