//! The contents of the maps as text, for golden files, logs and people.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
};

use super::contents::{FamilyMaps, MapAddress, MapContents};

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

fn family<A: MapAddress>(name: &str, maps: &FamilyMaps<A>, f: &mut Formatter<'_>) -> fmt::Result {
    if !maps.services.is_empty() {
        writeln!(f, "services_{name}")?;
    }
    for (key, entry) in &maps.services {
        write!(f, "  {}/{:?}  ", key.address.socket(key.port), key.protocol)?;
        write!(f, "service {} set {} ", entry.service, entry.endpoint_set)?;
        match entry.slot_count {
            0 => write!(f, "no slots")?,
            count => write!(
                f,
                "slots {}..{}",
                entry.slot_offset,
                u64::from(entry.slot_offset) + u64::from(count)
            )?,
        }
        match entry.affinity_seconds {
            0 => writeln!(f)?,
            seconds => writeln!(f, " affinity {seconds}s")?,
        }
    }
    if !maps.backends.is_empty() {
        writeln!(f, "backends_{name}")?;
    }
    for (key, backend) in &maps.backends {
        write!(f, "  set {} endpoint {}  ", key.endpoint_set, key.endpoint)?;
        writeln!(f, "{}/{:?}", backend.address.socket(backend.port), backend.protocol)?;
    }
    Ok(())
}
