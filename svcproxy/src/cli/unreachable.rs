//! Endpoints that are out of reach, as a run follows them: their connections are reset, and the log says so.

use std::{collections::BTreeSet, net::IpAddr, time::Instant};

use tracing::info;

use super::network::NodeNetwork;
use crate::{
    datapath::{Maps, Shift},
    model::Model,
    network::{Evidence, Reach},
    plan::MapContents,
};

/// The endpoints of a run.
#[derive(Default)]
pub(super) struct Endpoints {
    reach: Reach,
    /// Those whose connections are reset; `None` while the tables are as an earlier run left them.
    reset: Option<BTreeSet<IpAddr>>,
}

impl Endpoints {
    /// Remembers the endpoints that the maps hold: connections lead there.
    pub(super) fn learn(&mut self, contents: &MapContents) {
        self.reach.learn(contents.endpoints());
    }

    /// Looks which endpoints can be reached now, and resets the connections to those that can no more. The tables are
    /// looked through only when that has changed.
    ///
    /// # Errors
    ///
    /// When the network or the tables cannot be read; the next time makes up for it.
    pub(super) async fn follow(&mut self, network: &NodeNetwork, model: &Model, maps: &mut Maps) -> anyhow::Result<()> {
        let mut led_elsewhere = BTreeSet::new();
        for ip in self.reach.without_route(network.snapshot()) {
            if network.monitor().has_way_to(ip).await? {
                led_elsewhere.insert(ip);
            }
        }
        let neighbours = network.monitor().neighbours().await?;
        for (interface, ip) in self.reach.stale(network.snapshot(), &neighbours) {
            network.monitor().ask(interface, ip).await?;
        }
        let endpoints = model.serving();
        self.reach.update(&Evidence {
            network: network.snapshot(),
            neighbours: &neighbours,
            led_elsewhere: &led_elsewhere,
            endpoints: &endpoints,
            ended: &model.ended,
            now: Instant::now(),
        });
        self.apply(maps)
    }

    fn apply(&mut self, maps: &mut Maps) -> anyhow::Result<()> {
        let out: BTreeSet<IpAddr> = self.reach.out().map(|(ip, _)| ip).collect();
        if self.reset.as_ref() == Some(&out) {
            return Ok(());
        }
        let shift = match &self.reset {
            Some(reset) => Shift {
                lost: &out - reset,
                back: reset - &out,
            },
            None => Shift {
                back: self.reach.known().filter(|ip| !out.contains(ip)).collect(),
                lost: out.clone(),
            },
        };
        let marked = maps.shift(&shift)?;
        for (ip, why) in self.reach.out().filter(|(ip, _)| shift.lost.contains(ip)) {
            let consequence = match marked.get(&ip) {
                None => "it has no TCP connection".to_owned(),
                Some(1) => "its TCP connection is reset".to_owned(),
                Some(count) => format!("its {count} TCP connections are reset"),
            };
            info!("endpoint {ip} is out of reach: {why}; {consequence}");
        }
        // At the start, that an endpoint can be reached is no news.
        for ip in self.reset.iter().flat_map(|reset| reset - &out) {
            info!("endpoint {ip} is within reach again");
        }
        self.reset = Some(out);
        Ok(())
    }
}
