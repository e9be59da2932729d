//! Typed handles to svcproxy's maps, and what the control plane reads from and writes to them.
//!
//! The same handles serve the daemon (over the maps it loaded) and `svcproxy get` (over the pins).

use std::{collections::BTreeMap, ops::Range, path::Path};

use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, ProgramArray, lpm_trie::LpmTrie},
};
use svcproxy_common::{
    Reason,
    abi::{
        Address, AffinityEntry, AffinityKey, Backend, BackendKey, Config, FlowEntry, FlowKey, FragmentKey,
        FragmentPorts, Interface, LAYOUT_VERSION, Layout, Network, NetworkAddress, ServiceEntry, ServiceKey, SocketKey,
        SocketPeer, SourceRange, V4Addr, V6Addr,
    },
};

mod batch;
mod elements;

pub use self::elements::entries;
pub(super) use self::elements::{delete, is_gone, visit};
use self::elements::{delete_prefixes, prefixes, put, put_prefixes};
use super::{DatapathError, filter::FlowFilter, grace, known::Known, shared::SharedArray};
use crate::plan::{Diff, FamilyMaps, FamilyStep, MapContents, SlotRun, Step, sets_of};

type Result<T> = std::result::Result<T, DatapathError>;

/// Every map.
pub struct Maps {
    /// The maps of IPv4.
    pub v4: Family<V4Addr>,
    /// The maps of IPv6.
    pub v6: Family<V6Addr>,
    config_v4: Array<MapData, Config<V4Addr>>,
    config_v6: Array<MapData, Config<V6Addr>>,
    slots: SharedArray<u32>,
    /// `interfaces`, by ifindex.
    pub interfaces: HashMap<MapData, u32, Interface>,
    /// `programs`, by the order of [`Maps::SUCCESSORS`].
    pub(super) successors: ProgramArray<MapData>,
    pub(super) known: Known,
    pub(super) flow_filter: FlowFilter,
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
    /// `fragments_`, the programs' own: kept pinned with the rest.
    pub fragments: HashMap<MapData, FragmentKey<A>, FragmentPorts>,
    /// `sockets_`, likewise.
    pub sockets: HashMap<MapData, SocketKey<A>, SocketPeer<A>>,
    /// `networks_`
    pub networks: LpmTrie<MapData, NetworkAddress<A>, Network>,
    /// `source_ranges_`
    pub source_ranges: LpmTrie<MapData, SourceRange<A>, u32>,
}

/// An address whose keys and values aya can hand to the kernel.
pub trait MapKeys: Address {
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
    pub const NAMES: [&str; 27] = [
        "services_v4",
        "services_v6",
        "backends_v4",
        "backends_v6",
        "backend_slots",
        "flows_v4",
        "flows_v6",
        "flow_filter",
        "pending_v4",
        "pending_v6",
        "affinity_v4",
        "affinity_v6",
        "networks_v4",
        "networks_v6",
        "source_ranges_v4",
        "source_ranges_v6",
        "config_v4",
        "config_v6",
        "fragments_v4",
        "fragments_v6",
        "sockets_v4",
        "sockets_v6",
        "interfaces",
        "known",
        "programs",
        "reasons",
        "layout",
    ];

    /// The programs that others go on to, by their index in `programs`.
    pub(super) const SUCCESSORS: [&str; 3] = ["svcproxy_in_any", "svcproxy_out_any", "svcproxy_reorder"];

    /// Makes the programs keep no fragment that comes before the first of its datagram, for comparing each packet with
    /// the decision code alone. Until they are loaded the next time.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn keep_no_fragments(&mut self) -> Result<()> {
        let index = Self::SUCCESSORS.iter().position(|name| *name == "svcproxy_reorder");
        let index = index.expect("one of them") as u32;
        self.successors
            .clear_index(&index)
            .map_err(DatapathError::map("programs"))
    }

    /// The maps of loaded programs. Pinned ones of an earlier run must be of this layout.
    pub(super) fn of_object(ebpf: &mut Ebpf, pin_dir: Option<&Path>) -> Result<Self> {
        let mut maps = Self::from_source(pin_dir, |name| {
            Ok(ebpf.take_map(name).expect("the object has every map"))
        })?;
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
        Self::from_source(Some(dir), |name| {
            let data = MapData::from_pin(dir.join(name)).map_err(DatapathError::map(name))?;
            Map::from_map_data(data).map_err(DatapathError::map(name))
        })
    }

    /// Whether maps pinned in `dir` may be read as ours.
    fn check_layout(layout: &Array<MapData, Layout>, dir: Option<&Path>) -> Result<()> {
        let found = layout.get(&0, 0).map_err(DatapathError::map("layout"))?.version;
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

    fn from_source(pin_dir: Option<&Path>, mut source: impl FnMut(&str) -> Result<Map>) -> Result<Self> {
        fn typed<T>(name: &str, map: Result<Map>) -> Result<T>
        where
            T: TryFrom<Map, Error = MapError>,
        {
            T::try_from(map?).map_err(DatapathError::map(name))
        }
        // Before the others: those of another layout may be of other types.
        let layout = typed("layout", source("layout"))?;
        Self::check_layout(&layout, pin_dir)?;
        Ok(Self {
            v4: Family::from_source(&mut source)?,
            v6: Family::from_source(&mut source)?,
            config_v4: typed("config_v4", source("config_v4"))?,
            config_v6: typed("config_v6", source("config_v6"))?,
            slots: SharedArray::new("backend_slots", source("backend_slots")?)?,
            interfaces: typed("interfaces", source("interfaces"))?,
            successors: typed("programs", source("programs"))?,
            known: Known::new(SharedArray::new("known", source("known")?)?)?,
            flow_filter: FlowFilter::new(source("flow_filter")?)?,
            reasons: typed("reasons", source("reasons"))?,
            layout,
        })
    }

    /// What the maps hold of the plan.
    pub fn contents(&self) -> Result<MapContents> {
        let (v4, v6) = (self.v4.contents(&self.config_v4)?, self.v6.contents(&self.config_v6)?);
        let entries = v4.services.values().chain(v6.services.values());
        let regions = entries.flat_map(sets_of).filter(|set| set.slot_count > 0);
        let regions: BTreeMap<u32, u32> = regions
            .map(|set| (set.slot_offset, set.slot_offset + set.slot_count))
            .collect();
        let mut slots = BTreeMap::new();
        if let Some(all) = hull(regions.iter().map(|(start, end)| *start..*end)) {
            let shared = self.slots.window(all)?;
            let values = |range: Range<u32>| range.map(|index| shared.get(index)).collect();
            slots = regions
                .into_iter()
                .map(|(start, end)| (start, values(start..end)))
                .collect();
        }
        Ok(MapContents { v4, v6, slots })
    }

    /// Makes the writes of a plan, in its order. What entries have pointed at is deleted, or free for the next plan,
    /// only when no program uses it any more.
    pub fn apply(&mut self, diff: &Diff) -> Result<()> {
        let mut in_use = false;
        for step in &diff.steps {
            if in_use && step.deletes_what_entries_name() {
                grace::wait();
                in_use = false;
            }
            in_use |= step.changes_entries();
            self.known.learn(step)?;
            match step {
                Step::V4(step) => self.v4.apply(step, &mut self.config_v4)?,
                Step::V6(step) => self.v6.apply(step, &mut self.config_v6)?,
                Step::WriteSlots(runs) => self.write_slots(runs)?,
            }
        }
        if in_use {
            grace::wait();
        }
        Ok(())
    }

    fn write_slots(&self, runs: &[SlotRun]) -> Result<()> {
        let ranges = runs.iter().map(|run| run.offset..run.offset + run.values.len() as u32);
        let Some(all) = hull(ranges) else {
            return Ok(());
        };
        let shared = self.slots.window(all)?;
        for run in runs {
            for (index, value) in (run.offset..).zip(&run.values) {
                shared.set(index, *value);
            }
        }
        Ok(())
    }

    /// Packets by reason, summed over processors.
    pub fn reasons(&self) -> Result<Vec<(Reason, u64)>> {
        let count = |reason: Reason| {
            let values = self.reasons.get(&(reason as u32), 0);
            match values {
                Ok(values) => Ok((reason, values.iter().sum())),
                // The map was made by a version that did not know this reason.
                Err(error) if is_gone(&error) => Ok((reason, 0)),
                Err(error) => Err(DatapathError::map("reasons")(error)),
            }
        };
        Reason::ALL.into_iter().map(count).collect()
    }
}

/// The least range that has all of these in it.
fn hull(ranges: impl Iterator<Item = Range<u32>>) -> Option<Range<u32>> {
    ranges.reduce(|all, range| all.start.min(range.start)..all.end.max(range.end))
}

impl<A: MapKeys> Family<A>
where
    ServiceKey<A>: aya::Pod + Ord,
    Backend<A>: aya::Pod,
    FlowKey<A>: aya::Pod,
    FlowEntry<A>: aya::Pod,
    AffinityKey<A>: aya::Pod,
    FragmentKey<A>: aya::Pod,
    SocketKey<A>: aya::Pod,
    SocketPeer<A>: aya::Pod,
    NetworkAddress<A>: aya::Pod,
    SourceRange<A>: aya::Pod,
    Config<A>: aya::Pod,
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
        fn trie<K: aya::Pod, V: aya::Pod>(
            source: &mut impl FnMut(&str) -> Result<Map>,
            name: &str,
            suffix: &str,
        ) -> Result<LpmTrie<MapData, K, V>> {
            let name = format!("{name}_{suffix}");
            LpmTrie::try_from(source(&name)?).map_err(DatapathError::map(&name))
        }
        Ok(Self {
            networks: trie(source, "networks", A::SUFFIX)?,
            source_ranges: trie(source, "source_ranges", A::SUFFIX)?,
            fragments: typed(source, "fragments", A::SUFFIX)?,
            sockets: typed(source, "sockets", A::SUFFIX)?,
            services: typed(source, "services", A::SUFFIX)?,
            backends: typed(source, "backends", A::SUFFIX)?,
            flows: typed(source, "flows", A::SUFFIX)?,
            pending: typed(source, "pending", A::SUFFIX)?,
            affinity: typed(source, "affinity", A::SUFFIX)?,
        })
    }

    fn contents(&self, config: &Array<MapData, Config<A>>) -> Result<FamilyMaps<A>> {
        Ok(FamilyMaps {
            services: entries(&self.services, "services")?.into_iter().collect(),
            backends: entries(&self.backends, "backends")?.into_iter().collect(),
            networks: prefixes(&self.networks, "networks")?,
            source_ranges: prefixes(&self.source_ranges, "source_ranges")?,
            // A fresh map holds zeros.
            config: Some(config.get(&0, 0).map_err(DatapathError::map("config"))?)
                .filter(|config| config.masquerade_port_count > 0),
        })
    }

    fn apply(&mut self, step: &FamilyStep<A>, config: &mut Array<MapData, Config<A>>) -> Result<()> {
        match step {
            FamilyStep::SetConfig(value) => config.set(0, value, 0).map_err(DatapathError::map("config")),
            FamilyStep::PutNetworks(entries) => put_prefixes(&mut self.networks, entries, "networks"),
            FamilyStep::PutSourceRanges(entries) => put_prefixes(&mut self.source_ranges, entries, "source_ranges"),
            FamilyStep::DeleteNetworks(keys) => delete_prefixes(&mut self.networks, keys, "networks"),
            FamilyStep::DeleteSourceRanges(keys) => delete_prefixes(&mut self.source_ranges, keys, "source_ranges"),
            FamilyStep::PutBackends(entries) => put(&mut self.backends, entries, "backends", "--backend-entries"),
            FamilyStep::PutServices(entries) => put(&mut self.services, entries, "services", "--service-entries"),
            FamilyStep::DeleteServices(keys) => delete(&mut self.services, keys, "services"),
            FamilyStep::DeleteBackends(keys) => delete(&mut self.backends, keys, "backends"),
        }
    }
}
