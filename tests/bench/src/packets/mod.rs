//! What a packet costs in the programs: floors and svcproxy side by side on the kernel's test run.

mod cases;
mod ip;
mod node;
mod placement;
mod programs;
mod proxy;
mod sample;

use std::time::Duration;

use anyhow::Result;
use aya::Pod;
use svcproxy::datapath::Sizes;
use svcproxy_common::{
    Reason,
    abi::{FlowEntry, FlowKey, V4Addr, V6Addr},
};

use self::{
    ip::Ip,
    proxy::{ACK, AFFINITY, Connections, EMPTY, Proxy, SYN, network, service_key, tuples},
    sample::{Case, measure, passed, sent},
};
pub(crate) use self::{
    placement::Target,
    programs::{Bench, Hook, Tuples},
};
use crate::{
    Effort,
    report::{Row, Series},
};

/// The daemon's defaults, but for slots: the default has none for 10 000 Services of both families.
const SIZES: Sizes = Sizes {
    flows: 262_144,
    pending: 65_536,
    affinity: 65_536,
    sockets: 64,
    services: 131_072,
    backends: 262_144,
    slots: 4_194_304,
};

/// Services whose clients are masqueraded: endpoints enough for a million clients behind one address.
const MASQUERADED: u32 = 100;
/// Flows where the number of Services is what changes.
pub(crate) const FLOWS: u32 = 16_384;
/// Packets of new flows, many times what the table of new connections holds.
const NEW_FLOWS: u32 = 131_072;
/// How often all tables are made anew: where the kernel puts them, and what their seeds make of the keys, is chance.
const WORLDS: u32 = 3;
/// Clients of the Service with affinity: each opens many connections.
const AFFINE_FLOWS: u32 = 4_096;

/// Takes the measurements, on a thread of its own that ends in a network namespace of its own.
pub(crate) fn run(effort: Effort) -> Result<Vec<Row>> {
    std::thread::spawn(move || measure_all(effort))
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn measure_all(effort: Effort) -> Result<Vec<Row>> {
    let ifindex = node::enter()?;
    let mut holder = Bench::load(ifindex, 1, 64, 64)?;
    holder.attach("generate_xdp_v4", "veth0")?;
    let (flows, services, seconds, worlds): (&[u32], &[u32], u64, u32) = match effort {
        Effort::Quick => (&[1, FLOWS], &[1, 10_000], 1, 1),
        Effort::Full => (&[1, 1024, FLOWS, 65_536], &[1, 100, 10_000], 6, WORLDS),
    };
    let time = Duration::from_secs(seconds); // of samples that are taken in turn
    let mut all: Vec<Series> = Vec::new();
    for _ in 0..worlds {
        let mut series = Vec::new();
        let mut world = World::new(ifindex, &SIZES, 1 << 22, services)?;
        world.family::<V4Addr>(flows, true, time / worlds, &mut series)?;
        world.family::<V6Addr>(flows, true, time / worlds, &mut series)?;
        match all.is_empty() {
            true => all = series,
            false => all.iter_mut().zip(series).for_each(|(all, series)| all.extend(series)),
        }
    }
    if effort == Effort::Full {
        let flows = 1 << 20;
        let sizes = Sizes {
            flows: flows * 4,
            ..SIZES
        };
        let mut world = World::new(ifindex, &sizes, flows * 5, &[])?;
        world.family::<V4Addr>(&[flows], false, time, &mut all)?;
        world.family::<V6Addr>(&[flows], false, time, &mut all)?;
    }
    Ok(all.iter().map(Series::row).collect())
}

/// All programs that are compared with each other.
struct World {
    bench: Bench,
    /// Clients keep their addresses. The first has one Service and the most flows; then one for each number of Services,
    /// all with the same number of flows.
    plain: Vec<Proxy>,
    /// Clients are masqueraded.
    masquerade: Proxy,
    empty: [Target; 2],
}

/// Connections of one family through the proxies.
struct Scene {
    /// Through each of [`World::plain`].
    plain: Vec<Connections>,
    masquerade: Connections,
}

/// The programs of one hook and family that do the least.
struct Floors {
    parse: Target,
    nat: Target,
    open: Target,
}

impl World {
    fn new(ifindex: u32, sizes: &Sizes, tuples: u32, services: &[u32]) -> Result<Self> {
        let mut bench = Bench::load(ifindex, tuples, sizes.flows, sizes.pending)?;
        let mut proxy = |services, masquerade| Proxy::new(&mut bench, ifindex, sizes, services, masquerade);
        let plain: Result<Vec<_>> = [1]
            .iter()
            .chain(services)
            .map(|&services| proxy(services, false))
            .collect();
        let (plain, masquerade) = (plain?, proxy(MASQUERADED, true)?);
        let empty = [bench.own(Hook::Xdp, "empty_xdp")?, bench.own(Hook::Tc, "empty_tc")?];
        for (program, interface) in [
            ("generate_xdp_v4", "held0"),
            ("generate_xdp_v6", "held1"),
            ("empty_xdp", "held2"),
        ] {
            bench.attach(program, interface)?;
        }
        Ok(Self {
            bench,
            plain,
            masquerade,
            empty,
        })
    }

    /// Measures everything of one family at both hooks, at so many flows and, with `others`, what no flow is there for.
    fn family<A: Ip>(&mut self, flows: &[u32], others: bool, time: Duration, series: &mut Vec<Series>) -> Result<()>
    where
        FlowKey<A>: Pod,
        FlowEntry<A>: Pod,
    {
        let most = flows.iter().copied().max().unwrap_or(1);
        let mut plain = Vec::new();
        for proxy in &mut self.plain {
            let first = plain.is_empty();
            let count = if first { most } else { FLOWS };
            plain.push(proxy.connect::<A>(&mut self.bench, count, first)?);
        }
        let masquerade = self.masquerade.connect::<A>(&mut self.bench, most, false)?;
        let scene = Scene { plain, masquerade };
        for hook in [Hook::Xdp, Hook::Tc] {
            let floors = self.floors::<A>(hook)?;
            self.established::<A>(hook, &scene, &floors, flows, time, series)?;
            if others {
                self.others::<A>(hook, &scene, &floors, time, series)?;
            }
        }
        Ok(())
    }

    fn floors<A: Ip>(&mut self, hook: Hook) -> Result<Floors> {
        let mut own = |what| self.bench.own(hook, &format!("{what}_{}_{}", hook.name(), A::NAME));
        Ok(Floors {
            parse: own("parse")?,
            nat: own("nat")?,
            open: own("open")?,
        })
    }
}
