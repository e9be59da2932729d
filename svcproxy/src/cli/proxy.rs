//! A running proxy: what the manifests and the network say is brought into the datapath, at the start and at each
//! change.
//!
//! A change is read, validated and planned as a whole before anything is written. What is wrong with it is reported,
//! and what was in force stays.

use std::{mem, path::PathBuf, sync::Arc, time::SystemTime};

use tracing::{error, info, warn};

use super::{
    RunArgs,
    changes::{Reader, changes},
    network::NodeNetwork,
    unreachable::Endpoints,
};
use crate::{
    datapath::{Datapath, DatapathError, pins, sockets, sweep},
    health::{Health, ServiceServers, health_checks},
    manifest::Changed,
    model::{Model, Node, NodePolicy},
    plan::{self, Diff, Limits, MapContents, UdpEndpoints},
    state::{Memory, State, StateError},
};

/// A running proxy: the datapath, the network it is in, and what the manifests last said.
pub(super) struct Proxy<'a> {
    args: &'a RunArgs,
    datapath: &'a mut Datapath,
    pub(super) network: NodeNetwork,
    manifests: Reader<'a>,
    health: Arc<Health>,
    health_checks: ServiceServers,
    /// What is in force, with what the network says of this node.
    model: Model,
    /// This node as the manifests have it.
    node: Node,
    state: State,
    /// The UDP endpoints that may have flows; `None` while the tables are as an earlier run left them.
    udp: Option<UdpEndpoints>,
    endpoints: Endpoints,
    /// What the maps hold of the plan, when it is known.
    programmed: Option<MapContents>,
}

impl<'a> Proxy<'a> {
    /// A proxy that has brought nothing into its datapath yet.
    pub(super) fn new(
        args: &'a RunArgs,
        datapath: &'a mut Datapath,
        network: NodeNetwork,
        manifests: Reader<'a>,
        health: Arc<Health>,
    ) -> Self {
        Self {
            args,
            datapath,
            network,
            manifests,
            health_checks: ServiceServers::new(health.clone()),
            health,
            model: Model::default(),
            node: Node::default(),
            state: State::default(),
            udp: None,
            endpoints: Endpoints::default(),
            programmed: None,
        }
    }

    /// Programs the maps, then attaches to the listed interfaces and the node's sockets: to all of them, or to none that
    /// was not attached before. Those of pods follow, then the programs for packets that are not plain: healthy is what
    /// takes all.
    pub(super) fn set_up(&mut self, model: Model, memory: Memory) -> anyhow::Result<()> {
        self.apply(model, memory)?;
        let dir = self.links_dir();
        let before = pins::pinned(&dir)?;
        let attached = self.attach_to_interfaces(true).and_then(|()| {
            self.attach_to_sockets()?;
            Ok(self.datapath.take_over()?)
        });
        if attached.is_err() {
            pins::keep_only(&dir, &before)?;
        } else {
            self.health.updated(SystemTime::now());
        }
        attached
    }

    /// Reads the manifests again. An error leaves what worked.
    pub(super) fn reload(&mut self, changed: &Changed) {
        self.health.queued(SystemTime::now());
        let reloaded = self.manifests.read(changed, &self.state).and_then(|read| match read {
            Some((model, memory)) => {
                self.apply(model, memory)?;
                self.attach_to_interfaces(false).map(|()| true)
            }
            None => Ok(false),
        });
        match reloaded {
            Ok(true) => {
                self.health.updated(SystemTime::now());
                info!("reloaded");
            }
            Ok(false) => {
                self.health.refused();
                error!("not reloaded: the last good state stays");
            }
            Err(error) => {
                self.manifests.forget();
                error!("not reloaded: {error:#}");
                if !may_pass(&error) {
                    self.health.refused();
                }
            }
        }
    }

    /// Brings all that depends on the network up to date. An error leaves what worked.
    pub(super) async fn follow_network(&mut self) {
        let followed = match self.network.refresh().await {
            Ok(()) => self.adapt(),
            Err(error) => Err(error),
        };
        if let Err(error) = followed {
            error!("the network has changed, and not all of it is followed: {error:#}");
        }
    }

    /// Resets connections whose endpoint is out of reach. An error leaves it to the next time.
    pub(super) async fn follow_endpoints(&mut self) {
        let maps = &mut self.datapath.maps;
        if let Err(error) = self.endpoints.follow(&self.network, &self.model, maps).await {
            error!("connections to endpoints out of reach are not reset: {error:#}");
        }
    }

    /// What is due every now and then: forgotten connections are removed, and what the kernel has refused is tried
    /// again.
    ///
    /// # Errors
    ///
    /// When the tables cannot be read any more.
    pub(super) fn sweep(&mut self) -> anyhow::Result<()> {
        self.datapath.maps.sweep(sweep::now())?;
        // What was kept for a connection may be detached from when that has ended.
        if let Err(error) = self.attach_to_interfaces(false) {
            error!("interfaces are not looked after: {error:#}");
        }
        if self.health.is_waiting() {
            self.reload(&Changed::Anything);
        }
        Ok(())
    }

    /// Brings the maps to what the manifests say.
    fn apply(&mut self, mut model: Model, memory: Memory) -> anyhow::Result<()> {
        let node = model.node.clone();
        match &memory {
            // Nothing has changed of what the network is held against.
            Memory::Some(_) if self.programmed.is_some() => model.node = self.model.node.clone(),
            _ => {
                model.node = self.network.node(&node, &model.services);
                self.network.check(&model)?;
            }
        }
        if let Memory::All(state) = &memory {
            state.save(&self.args.places.state_dir)?;
        }
        let before = self.program(model)?;
        self.node = node;
        for change in changes(&before, &self.model) {
            info!("{change}");
        }
        match memory {
            Memory::All(state) => self.state = state,
            Memory::Some(records) if records.is_empty() => {}
            Memory::Some(records) => {
                self.state.services.extend(records);
                self.state.save(&self.args.places.state_dir)?;
            }
        }
        Ok(())
    }

    /// Brings the maps, and what depends on them, to what a complete model says. Returns the one that was in force.
    fn program(&mut self, model: Model) -> anyhow::Result<Model> {
        let policy = self.args.input.node.policy()?;
        let contents = self.write(&model, &policy)?;

        let udp = UdpEndpoints::of(&model, &policy);
        // A full table takes the better part of a second to look through.
        if self.udp.as_ref().is_none_or(|before| before.lost(&udp)) {
            let removed = self.datapath.maps.forget_stale(&udp)?;
            if removed > 0 {
                info!("removed {removed} flow table entries of UDP endpoints that are gone");
            }
        }
        self.udp = Some(udp);
        self.health.set_node_leaves(model.node.leaving);
        self.health_checks.sync(&health_checks(&model, &policy));
        self.programmed = Some(contents);
        Ok(mem::replace(&mut self.model, model))
    }

    /// Plans for a complete model and makes the writes. Returns what the maps hold now.
    fn write(&mut self, model: &Model, policy: &NodePolicy) -> anyhow::Result<MapContents> {
        let limits = Limits {
            backend_slots: self.args.sizes.backend_slots,
        };
        let maps = &mut self.datapath.maps;
        let current = match self.programmed.take() {
            Some(mut contents) => {
                if let Some(part) = plan::plan_endpoints(&self.model, model, policy, &contents, &limits)? {
                    self.endpoints.learn(part.wanted());
                    maps.apply(&part.diff())?;
                    part.put_into(&mut contents);
                    return Ok(contents);
                }
                contents
            }
            // Reading all of it takes as long as writing it: once, and again after a failure.
            None => maps.contents()?,
        };
        let wanted = plan::plan(model, policy, &current, &limits)?;
        self.endpoints.learn(&current);
        self.endpoints.learn(&wanted);
        maps.apply(&Diff::between(&current, &wanted))?;
        Ok(wanted)
    }

    fn adapt(&mut self) -> anyhow::Result<()> {
        self.attach_to_interfaces(false)?;
        let node = self.network.node(&self.node, &self.model.services);
        if self.programmed.is_some() && node == self.model.node {
            return Ok(());
        }
        self.health.queued(SystemTime::now());
        let model = Model {
            node,
            ..self.model.clone()
        };
        let checked = self.network.check(&model);
        self.program(model)?;
        self.health.updated(SystemTime::now());
        checked
    }

    fn attach_to_interfaces(&mut self, starting: bool) -> anyhow::Result<()> {
        let dir = self.links_dir();
        self.network.attach(self.datapath, &dir, &self.model, starting)?;
        let on_xdp = self.network.on_xdp();
        Ok(self.datapath.set_interfaces(self.network.snapshot(), &on_xdp)?)
    }

    /// Has this node's own processes reach Services, where there are cgroups.
    fn attach_to_sockets(&mut self) -> anyhow::Result<()> {
        let named = self.args.cgroup_root.clone();
        let Some(cgroup) = named.map_or_else(sockets::cgroup_root, |named| Ok(Some(named)))? else {
            warn!(
                "no cgroup2 file system is mounted: this node's own processes do not reach Services until it is \
                 (`mount -t cgroup2 none DIR`) and svcproxy is started again"
            );
            return Ok(());
        };
        self.datapath.attach_sockets(&self.links_dir(), &cgroup)?;
        info!(
            "sockets of this node's own processes: attached to cgroup {}",
            cgroup.display()
        );
        if self.args.cgroup_root.is_none() && !sockets::is_root_cgroup(&cgroup) {
            warn!(
                "{} is not the root of this machine's cgroups: only processes below it reach Services; mount the host's \
                 and name it with --cgroup-root",
                cgroup.display()
            );
        }
        Ok(())
    }

    fn links_dir(&self) -> PathBuf {
        self.args.places.pin_dir.join("links")
    }
}

/// Whether what failed may succeed the next time without another input: the kernel or the disk has refused it.
fn may_pass(error: &anyhow::Error) -> bool {
    error.is::<DatapathError>() || error.is::<StateError>()
}
