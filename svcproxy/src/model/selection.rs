//! Which endpoints of a ServicePort new connections may go to, and why not the others: the *cluster* set and, where a
//! policy is `Local`, the *local* set.
//!
//! In come the endpoints of one family and the node; out goes a [`Selection`], which judges each endpoint. The two
//! sets are found independently of each other, as kube-proxy's `CategorizeEndpoints` does.

use std::fmt;

use super::{Endpoint, Family, Node, ServicePort};

/// The endpoints that *Cluster* traffic chooses from: those that are ready, cut by topology hints; when none is, all
/// that still serve while they terminate.
pub fn cluster_set<'a>(port: &'a ServicePort, family: Family, node: &'a Node) -> Selection<'a> {
    Selection::new(port, family, node, Scope::Cluster)
}

/// The endpoints that *Local* traffic chooses from: those of this node that are ready, else those of it that still
/// serve while they terminate.
pub fn local_set<'a>(port: &'a ServicePort, family: Family, node: &'a Node) -> Selection<'a> {
    Selection::new(port, family, node, Scope::Local)
}

/// One set of endpoints, and how it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection<'a> {
    port: &'a ServicePort,
    family: Family,
    node: &'a Node,
    scope: Scope,
    /// Whether the endpoints are ready ones, terminating ones, or none.
    pub stage: Stage,
    /// What topology hints did. Always [`Hints::Absent`] in a local set.
    pub hints: Hints,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Cluster,
    Local,
}

/// Which kind of endpoint a set is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Ready ones.
    Ready,
    /// None is ready: those that serve while they terminate.
    Terminating,
    /// There is none of either kind.
    Empty,
}

/// What became of the topology hints of the ready endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hints {
    /// There are none.
    Absent,
    /// Only endpoints with a hint for this node are chosen.
    Node,
    /// Only endpoints with a hint for this node's zone are chosen.
    Zone,
    /// There are, and they are ignored.
    Ignored(IgnoredHints),
}

/// Why topology hints are ignored. Prints as the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IgnoredHints {
    /// Some ready endpoint has no hint of the kind that others have.
    Incomplete,
    /// All have node hints, none for this node, and not all have zone hints.
    OtherNodes,
    /// All have zone hints, and this node's zone is not known.
    NoZone,
    /// All have zone hints, none for this node's zone.
    OtherZones,
}

impl fmt::Display for IgnoredHints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Incomplete => "not every ready endpoint has one",
            Self::OtherNodes => "none is for this node",
            Self::NoZone => "this node has no label topology.kubernetes.io/zone",
            Self::OtherZones => "none is for this node's zone",
        })
    }
}

/// Why an endpoint is not in a set. Prints as the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// It is of the other family.
    OtherFamily,
    /// It is not ready.
    NotReady,
    /// It is on its way out, and others are ready.
    Terminating,
    /// It no longer serves.
    NotServing,
    /// It is not on this node, and the policy is `Local`.
    NotLocal,
    /// Its hints are for other nodes.
    HintedToOtherNodes,
    /// Its hints are for other zones.
    HintedToOtherZones,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherFamily => "of the other address family",
            Self::NotReady => "not ready",
            Self::Terminating => "terminating while others are ready",
            Self::NotServing => "no longer serving",
            Self::NotLocal => "not on this node, and the policy is Local",
            Self::HintedToOtherNodes => "topology hints give it to other nodes",
            Self::HintedToOtherZones => "topology hints give it to other zones",
        })
    }
}

impl<'a> Selection<'a> {
    fn new(port: &'a ServicePort, family: Family, node: &'a Node, scope: Scope) -> Self {
        let mut selection = Self {
            port,
            family,
            node,
            scope,
            stage: Stage::Ready,
            hints: Hints::Absent,
        };
        if scope == Scope::Cluster {
            selection.hints = hints(port.of_family(family).filter(|endpoint| endpoint.ready), node);
        }
        for stage in [Stage::Ready, Stage::Terminating] {
            selection.stage = stage;
            if selection.endpoints().next().is_some() {
                return selection;
            }
        }
        selection.stage = Stage::Empty;
        selection
    }

    /// The endpoints in the set, by address and port.
    pub fn endpoints(self) -> impl Iterator<Item = &'a Endpoint> {
        self.port
            .endpoints
            .iter()
            .filter(move |endpoint| self.judge(endpoint).is_ok())
    }

    /// The endpoints of the ServicePort that are not in it, and why.
    pub fn left_out(self) -> impl Iterator<Item = (&'a Endpoint, LeftOut)> {
        let judged = move |endpoint: &'a Endpoint| Some((endpoint, self.judge(endpoint).err()?));
        self.port.endpoints.iter().filter_map(judged)
    }

    /// Whether there is no endpoint in it.
    pub fn is_empty(self) -> bool {
        self.stage == Stage::Empty
    }

    /// Whether an endpoint is in the set, or why it is not.
    pub fn judge(self, endpoint: &Endpoint) -> Result<(), LeftOut> {
        if Family::of(endpoint.address) != self.family {
            return Err(LeftOut::OtherFamily);
        }
        if self.scope == Scope::Local && !endpoint.is_on(self.node) {
            return Err(LeftOut::NotLocal);
        }
        let leaving = endpoint.serving && endpoint.terminating;
        match self.stage {
            Stage::Ready if endpoint.ready => {}
            Stage::Ready if leaving => return Err(LeftOut::Terminating),
            Stage::Terminating if leaving => return Ok(()),
            _ if endpoint.terminating => return Err(LeftOut::NotServing),
            _ => return Err(LeftOut::NotReady),
        }
        match self.hints {
            Hints::Node if !endpoint.node_hints.contains(&self.node.name) => Err(LeftOut::HintedToOtherNodes),
            Hints::Zone if !is_hinted(&endpoint.zone_hints, self.node.zone.as_deref()) => {
                Err(LeftOut::HintedToOtherZones)
            }
            _ => Ok(()),
        }
    }
}

/// Node hints before zone hints, and either only when every ready endpoint has them and one is for us.
fn hints<'a>(ready: impl Iterator<Item = &'a Endpoint>, node: &Node) -> Hints {
    let (mut for_node, mut for_zone) = (Coverage::default(), Coverage::default());
    for endpoint in ready {
        for_node.add(&endpoint.node_hints, Some(&node.name));
        for_zone.add(&endpoint.zone_hints, node.zone.as_deref());
    }
    if !for_node.any && !for_zone.any {
        Hints::Absent
    } else if for_node.all() && for_node.ours {
        Hints::Node
    } else if for_zone.all() && for_zone.ours {
        Hints::Zone
    } else if for_zone.all() && node.zone.is_none() {
        Hints::Ignored(IgnoredHints::NoZone)
    } else if for_zone.all() {
        Hints::Ignored(IgnoredHints::OtherZones)
    } else if for_node.all() {
        Hints::Ignored(IgnoredHints::OtherNodes)
    } else {
        Hints::Ignored(IgnoredHints::Incomplete)
    }
}

/// Which ready endpoints have hints of one kind.
#[derive(Default)]
struct Coverage {
    any: bool,
    missing: bool,
    ours: bool,
}

impl Coverage {
    fn add(&mut self, hints: &[String], wanted: Option<&str>) {
        self.any |= !hints.is_empty();
        self.missing |= hints.is_empty();
        self.ours |= is_hinted(hints, wanted);
    }

    fn all(&self) -> bool {
        self.any && !self.missing
    }
}

fn is_hinted(hints: &[String], wanted: Option<&str>) -> bool {
    wanted.is_some_and(|wanted| hints.iter().any(|hint| hint == wanted))
}
