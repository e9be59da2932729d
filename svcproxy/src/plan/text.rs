//! The contents of the maps as text, for golden files, logs and people.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
};

use ipnet::IpNet;
use svcproxy_common::abi::{
    Backend, BackendKey, Config, Empty, EndpointSet, Protocol, ServiceEntry, ServiceKey, SourceRange, Way,
};

use super::{
    contents::{FamilyMaps, MapAddress, MapContents, Prefix},
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
    if !maps.networks.is_empty() {
        writeln!(f, "networks_{name}")?;
    }
    for (prefix, network) in &maps.networks {
        writeln!(f, "  {}  {network:?}", network_key::<A>(prefix))?;
    }
    if !maps.source_ranges.is_empty() {
        writeln!(f, "source_ranges_{name}")?;
    }
    for prefix in maps.source_ranges.keys() {
        writeln!(f, "  {}", source_range(prefix))?;
    }
    if let Some(value) = &maps.config {
        writeln!(f, "config_{name}\n  {}", config(value))?;
    }
    Ok(())
}

fn family_step<A: MapAddress>(step: &FamilyStep<A>, f: &mut Formatter<'_>) -> fmt::Result {
    match step {
        FamilyStep::SetConfig(value) => writeln!(f, "set config {}", config(value)),
        FamilyStep::PutNetworks(puts) => puts
            .iter()
            .try_for_each(|(key, network)| writeln!(f, "put network {}  {network:?}", network_key::<A>(key))),
        FamilyStep::PutSourceRanges(puts) => puts
            .iter()
            .try_for_each(|(key, _)| writeln!(f, "put source range {}", source_range(key))),
        FamilyStep::DeleteNetworks(keys) => keys
            .iter()
            .try_for_each(|key| writeln!(f, "delete network {}", network_key::<A>(key))),
        FamilyStep::DeleteSourceRanges(keys) => keys
            .iter()
            .try_for_each(|key| writeln!(f, "delete source range {}", source_range(key))),
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
    match key.protocol {
        Protocol::ANY => format!("{} other ports", key.address.ip()),
        protocol => format!("{}/{protocol}", key.address.socket(key.port)),
    }
}

fn service_entry(entry: &ServiceEntry) -> String {
    let service = entry.service;
    let way = match entry.way {
        Way::CLUSTER_IP => "cluster IP",
        Way::NODE_PORT => "nodePort",
        Way::EXTERNAL_IP => "external IP",
        Way::LOAD_BALANCER => "load balancer",
        Way::OTHER_PORT => return format!("service {service} REJECT"),
    };
    let sets = match entry.outside == entry.inside {
        true => endpoint_set(&entry.inside),
        false => format!(
            "outside {}, inside {}",
            endpoint_set(&entry.outside),
            endpoint_set(&entry.inside)
        ),
    };
    let affinity = match entry.affinity_seconds {
        0 => String::new(),
        seconds => format!(" affinity {seconds}s"),
    };
    let filtered = if entry.filtered { " filtered" } else { "" };
    let clients = [
        (entry.masquerade_outside, "outside"),
        (entry.masquerade_pods, "pods"),
        (entry.masquerade_node, "node"),
    ];
    let masqueraded: Vec<_> = clients.iter().filter_map(|(is, who)| is.then_some(*who)).collect();
    let masquerade = match masqueraded.len() {
        0 => String::new(),
        3 => " masquerade all".to_owned(),
        _ => format!(" masquerade {}", masqueraded.join("+")),
    };
    format!("service {service} {way} {sets}{affinity}{filtered}{masquerade}")
}

fn endpoint_set(set: &EndpointSet) -> String {
    match (set.slot_count, set.empty) {
        (0, Empty::REJECT) => format!("set {} REJECT", set.number),
        (0, Empty::DROP) => format!("set {} DROP", set.number),
        (count, _) => {
            let end = u64::from(set.slot_offset) + u64::from(count);
            format!("set {} slots {}..{end}", set.number, set.slot_offset)
        }
    }
}

fn network_key<A: MapAddress>(prefix: &Prefix<A::Octets>) -> String {
    format!("{}/{}", A::from_octets(prefix.data).ip(), prefix.length)
}

fn source_range<A: MapAddress>(prefix: &Prefix<SourceRange<A>>) -> String {
    let client = Prefix {
        data: prefix.data.client,
        length: prefix.length.saturating_sub(u32::BITS),
    };
    format!("service {} {}", prefix.data.service, network_key::<A>(&client))
}

fn config<A: MapAddress>(config: &Config<A>) -> String {
    let last = (config.masquerade_port_first + config.masquerade_port_count).saturating_sub(1);
    let services = IpNet::with_netmask(config.service_network.ip(), config.service_mask.ip());
    format!(
        "node {} masquerade ports {}-{last} services {}{}",
        config.node_address.ip(),
        config.masquerade_port_first,
        services.map_or_else(|error| error.to_string(), |network| network.to_string()),
        if config.routes_by_destination {
            " routes by destination"
        } else {
            ""
        }
    )
}

fn backend_key(key: &BackendKey) -> String {
    format!("set {} endpoint {}", key.endpoint_set, key.endpoint)
}

fn backend<A: MapAddress>(backend: &Backend<A>) -> String {
    format!("{}/{}", backend.address.socket(backend.port), backend.protocol)
}
