//! The endpoints of a ServicePort, those that may be chosen and those left out, each with its reason.

use std::net::SocketAddr;

use svcproxy_common::abi::Way;

use super::{paint::Paint, scene::Explanation};
use crate::model::{Family, Hints, Node, Selection, ServicePort, Stage, TrafficPolicy, cluster_set, local_set};

/// How many are listed.
const LISTED: usize = 24;

/// Says the endpoints, line by line.
pub(super) fn list(explained: &Explanation<'_>, paint: Paint, mut line: impl FnMut(String)) {
    let backends = &explained.reach.backends;
    let Some((port, node, selection)) = selection(explained) else {
        line(format!(
            "{} may be chosen; those left out are known only from manifests (-f)",
            backends.len()
        ));
        for backend in backends.iter().take(LISTED) {
            line(entry(explained, paint, *backend, None, ""));
        }
        more(backends.len(), &mut line);
        return;
    };
    let family = Family::of(explained.question.dst.socket.ip());
    let all: Vec<_> = port.of_family(family).collect();
    line(match (all.len(), backends.len()) {
        (0, _) => "there are none".to_owned(),
        (all, chosen) => format!("{chosen} of {all} may be chosen"),
    });
    if let Some(remark) = remark(&selection, node) {
        line(remark);
    }
    for endpoint in all.iter().take(LISTED) {
        let place = endpoint
            .node_name
            .as_ref()
            .map_or(String::new(), |node| format!(" on {node}"));
        let left_out = selection.judge(endpoint).err().map(|reason| reason.to_string());
        let address = SocketAddr::new(endpoint.address, endpoint.port);
        line(entry(explained, paint, address, left_out, &place));
    }
    more(all.len(), &mut line);
}

/// The set that the connection chooses from, as the rules find it.
fn selection<'a>(explained: &Explanation<'a>) -> Option<(&'a ServicePort, &'a Node, Selection<'a>)> {
    let (model, _) = explained.known.rules?;
    let (service, record) = (explained.model_service()?, explained.service?.port?);
    let is_meant = |port: &&ServicePort| port.port == record.port && port.protocol.to_string() == record.protocol;
    let port = service.ports.iter().find(is_meant)?;
    let local = match explained.reach.entry?.way {
        Way::CLUSTER_IP => service.internal_traffic_policy == TrafficPolicy::Local,
        _ => service.external_traffic_policy == TrafficPolicy::Local && !explained.is_inside(),
    };
    let family = Family::of(explained.question.dst.socket.ip());
    let selection = match local {
        true => local_set(port, family, &model.node),
        false => cluster_set(port, family, &model.node),
    };
    Some((port, &model.node, selection))
}

/// What is not plain about the set.
fn remark(selection: &Selection<'_>, node: &Node) -> Option<String> {
    Some(match (selection.stage, selection.hints) {
        (Stage::Terminating, _) => "none is ready: those that still serve while they terminate".to_owned(),
        (Stage::Ready, Hints::Node) => format!("by their topology hints, those for node {}", node.name),
        (Stage::Ready, Hints::Zone) => format!(
            "by their topology hints, those for zone {}",
            node.zone.as_deref().unwrap_or_default()
        ),
        (Stage::Ready, Hints::Ignored(why)) => format!("topology hints are ignored: {why}"),
        _ => return None,
    })
}

/// `✓ 10.244.0.11:8080 kubia-1 on node-1`
fn entry(
    explained: &Explanation<'_>,
    paint: Paint,
    address: SocketAddr,
    left_out: Option<String>,
    place: &str,
) -> String {
    let pod = explained
        .pod(address.ip())
        .map_or(String::new(), |pod| format!(" {pod}"));
    match left_out {
        Some(reason) => paint.dim(format!("✗ {address}{pod}{place}: {reason}")).to_string(),
        None if explained.answer.chosen == Some(address) => {
            format!(
                "{} {address}{pod}{place}  {}",
                paint.green("✓"),
                paint.bold("← this one")
            )
        }
        None => format!("{} {address}{pod}{place}", paint.green("✓")),
    }
}

fn more(all: usize, line: &mut impl FnMut(String)) {
    if let Some(more) = all.checked_sub(LISTED).filter(|more| *more > 0) {
        line(format!("… and {more} more"));
    }
}
