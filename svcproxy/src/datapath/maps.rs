//! Typed handles to svcproxy's maps, and what the control plane reads from and writes to them.
//!
//! The same handles serve the daemon (over the maps it loaded) and `svcproxy get` (over the pins).

use std::{collections::BTreeMap, path::Path, sync::Arc};

use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray},
};
use svcproxy_common::{
    Reason,
    abi::{
        AffinityEntry, AffinityKey, Backend, BackendKey, FlowEntry, FlowKey, Interface, LAYOUT_VERSION, Layout,
        ServiceEntry, ServiceKey, V4Addr, V6Addr,
    },
};

use super::DatapathError;
use crate::plan::{Diff, FamilyMaps, FamilyStep, MapContents, Step};

type Result<T> = std::result::Result<T, DatapathError>;

/// Every map.
pub struct Maps {
    /// The maps of IPv4.
    pub v4: Family<V4Addr>,
    /// The maps of IPv6.
    pub v6: Family<V6Addr>,
    /// `backend_slots`
    pub slots: Array<MapData, u32>,
    /// `interfaces`, by ifindex.
    pub interfaces: HashMap<MapData, u32, Interface>,
    reasons: PerCpuArray<MapData, u64>,
    layout: Array<MapData, Layout>,
}

/// The maps of one address family.
pub struct Family<A: MapKeys> {
    /// `services_`
    pub services: HashMap<MapData, ServiceKey<A>, ServiceEntry>,
    /// `backends_`
    pub backends: HashMap<MapData, BackendKey, Backend<A>>,
    /// `flows_`
    pub flows: HashMap<MapData, FlowKey<A>, FlowEntry<A>>,
    /// `pending_`
    pub pending: HashMap<MapData, FlowKey<A>, FlowEntry<A>>,
    /// `affinity_`
    pub affinity: HashMap<MapData, AffinityKey<A>, AffinityEntry>,
}

/// An address whose keys and values aya can hand to the kernel.
pub trait MapKeys: Copy + 'static {
    /// What the names of its maps end with.
    const SUFFIX: &'static str;
}

impl MapKeys for V4Addr {
    const SUFFIX: &'static str = "v4";
}

impl MapKeys for V6Addr {
    const SUFFIX: &'static str = "v6";
}

impl Maps {
    /// Names of all maps, as in the object and under the pin directory.
    pub const NAMES: [&str; 14] = [
        "services_v4",
        "services_v6",
        "backends_v4",
        "backends_v6",
        "backend_slots",
        "flows_v4",
        "flows_v6",
        "pending_v4",
        "pending_v6",
        "affinity_v4",
        "affinity_v6",
        "interfaces",
        "reasons",
        "layout",
    ];

    /// The maps of loaded programs. Pinned ones of an earlier run must be of this layout.
    pub(super) fn of_object(ebpf: &mut Ebpf, pin_dir: Option<&Path>) -> Result<Self> {
        let mut maps = Self::from_source(|name| Ok(ebpf.take_map(name).expect("the object has every map")))?;
        maps.check_layout(pin_dir)?;
        let layout = Layout {
            version: LAYOUT_VERSION,
        };
        maps.layout.set(0, layout, 0).map_err(DatapathError::map("layout"))?;
        Ok(maps)
    }

    /// The maps pinned under a directory.
    ///
    /// # Errors
    ///
    /// When nothing is pinned there, or maps of another layout, or when we may not open them.
    pub fn pinned(dir: &Path) -> Result<Self> {
        if !dir.join("layout").exists() {
            return Err(DatapathError::NotRunning { dir: dir.to_owned() });
        }
        let maps = Self::from_source(|name| {
            let data = MapData::from_pin(dir.join(name)).map_err(DatapathError::map(name))?;
            Map::from_map_data(data).map_err(DatapathError::map(name))
        })?;
        maps.check_layout(Some(dir))?;
        Ok(maps)
    }

    fn check_layout(&self, dir: Option<&Path>) -> Result<()> {
        let found = self.layout.get(&0, 0).map_err(DatapathError::map("layout"))?.version;
        match dir {
            // A fresh map holds 0.
            Some(dir) if found != LAYOUT_VERSION && found != 0 => Err(DatapathError::Layout {
                dir: dir.to_owned(),
                found,
                expected: LAYOUT_VERSION,
            }),
            _ => Ok(()),
        }
    }

    fn from_source(mut source: impl FnMut(&str) -> Result<Map>) -> Result<Self> {
        fn typed<T>(name: &str, map: Result<Map>) -> Result<T>
        where
            T: TryFrom<Map, Error = MapError>,
        {
            T::try_from(map?).map_err(DatapathError::map(name))
        }
        Ok(Self {
            v4: Family::from_source(&mut source)?,
            v6: Family::from_source(&mut source)?,
            slots: typed("backend_slots", source("backend_slots"))?,
            interfaces: typed("interfaces", source("interfaces"))?,
            reasons: typed("reasons", source("reasons"))?,
            layout: typed("layout", source("layout"))?,
        })
    }

    /// What the maps hold of the plan.
    pub fn contents(&self) -> Result<MapContents> {
        let (v4, v6) = (self.v4.contents()?, self.v6.contents()?);
        let mut slots = BTreeMap::new();
        for entry in v4.services.values().chain(v6.services.values()) {
            let region = entry.slot_offset..entry.slot_offset + entry.slot_count;
            if region.is_empty() || slots.contains_key(&region.start) {
                continue;
            }
            let values: Result<Arc<[u32]>> = region
                .clone()
                .map(|index| self.slots.get(&index, 0).map_err(DatapathError::map("backend_slots")))
                .collect();
            slots.insert(region.start, values?);
        }
        Ok(MapContents { v4, v6, slots })
    }

    /// Makes the writes of a plan, in its order.
    pub fn apply(&mut self, diff: &Diff) -> Result<()> {
        for step in &diff.steps {
            match step {
                Step::V4(step) => self.v4.apply(step)?,
                Step::V6(step) => self.v6.apply(step)?,
                Step::WriteSlots(runs) => {
                    for run in runs {
                        for (index, value) in (run.offset..).zip(&run.values) {
                            self.slots
                                .set(index, value, 0)
                                .map_err(DatapathError::map("backend_slots"))?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Packets by reason, summed over processors.
    pub fn reasons(&self) -> Result<Vec<(Reason, u64)>> {
        let count = |reason: Reason| {
            let values = self
                .reasons
                .get(&(reason as u32), 0)
                .map_err(DatapathError::map("reasons"))?;
            Ok((reason, values.iter().sum()))
        };
        Reason::ALL.into_iter().map(count).collect()
    }
}

impl<A: MapKeys> Family<A>
where
    ServiceKey<A>: aya::Pod + Ord,
    Backend<A>: aya::Pod,
    FlowKey<A>: aya::Pod,
    FlowEntry<A>: aya::Pod,
    AffinityKey<A>: aya::Pod,
{
    fn from_source(source: &mut impl FnMut(&str) -> Result<Map>) -> Result<Self> {
        fn typed<K: aya::Pod, V: aya::Pod>(
            source: &mut impl FnMut(&str) -> Result<Map>,
            name: &str,
            suffix: &str,
        ) -> Result<HashMap<MapData, K, V>> {
            let name = format!("{name}_{suffix}");
            HashMap::try_from(source(&name)?).map_err(DatapathError::map(&name))
        }
        Ok(Self {
            services: typed(source, "services", A::SUFFIX)?,
            backends: typed(source, "backends", A::SUFFIX)?,
            flows: typed(source, "flows", A::SUFFIX)?,
            pending: typed(source, "pending", A::SUFFIX)?,
            affinity: typed(source, "affinity", A::SUFFIX)?,
        })
    }

    fn contents(&self) -> Result<FamilyMaps<A>> {
        Ok(FamilyMaps {
            services: entries(&self.services, "services")?.into_iter().collect(),
            backends: entries(&self.backends, "backends")?.into_iter().collect(),
        })
    }

    fn apply(&mut self, step: &FamilyStep<A>) -> Result<()> {
        match step {
            FamilyStep::PutBackends(entries) => put(&mut self.backends, entries, "backends", "--backend-entries"),
            FamilyStep::PutServices(entries) => put(&mut self.services, entries, "services", "--service-entries"),
            FamilyStep::DeleteServices(keys) => delete(&mut self.services, keys, "services"),
            FamilyStep::DeleteBackends(keys) => delete(&mut self.backends, keys, "backends"),
        }
    }
}

/// Everything a hash map holds. An entry that goes away meanwhile is left out.
pub fn entries<K: aya::Pod, V: aya::Pod>(map: &HashMap<MapData, K, V>, name: &str) -> Result<Vec<(K, V)>> {
    map.iter()
        .collect::<std::result::Result<_, _>>()
        .map_err(DatapathError::map(name))
}

fn put<K: aya::Pod, V: aya::Pod>(
    map: &mut HashMap<MapData, K, V>,
    entries: &[(K, V)],
    name: &str,
    flag: &'static str,
) -> Result<()> {
    for (key, value) in entries {
        map.insert(key, value, 0).map_err(|source| {
            let full = matches!(&source, MapError::SyscallError(error)
                if error.io_error.raw_os_error() == Some(nix::libc::E2BIG));
            if full {
                DatapathError::MapFull {
                    map: name.to_owned(),
                    flag,
                }
            } else {
                DatapathError::Map {
                    map: name.to_owned(),
                    source,
                }
            }
        })?;
    }
    Ok(())
}

/// Deletes keys; one that is gone already is no error.
pub(super) fn delete<K: aya::Pod, V: aya::Pod>(map: &mut HashMap<MapData, K, V>, keys: &[K], name: &str) -> Result<()> {
    for key in keys {
        match map.remove(key) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(nix::libc::ENOENT) => {}
            Err(source) => {
                return Err(DatapathError::Map {
                    map: name.to_owned(),
                    source,
                });
            }
        }
    }
    Ok(())
}
