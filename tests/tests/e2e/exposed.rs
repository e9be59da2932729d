//! A scene for Services that are to be found in every way: at their cluster IPs, external IPs, load balancer's addresses
//! and nodePorts; and tables of what becomes of clients there.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use svcproxy_tests::{
    client,
    daemon::Daemon,
    lab::Lab,
    manifest::{self, Endpoint, Service},
    namespace::Namespace,
    probe::{self, Outcome, Protocol},
    topology::{REMOTE, Topology},
};
use tokio::task::JoinSet;

use crate::scenario::topology;

/// `--hostname-override`
pub(crate) const HERE: &str = "here";
/// The lab's pods.
pub(crate) const POD_NETWORKS: &str = "--cluster-cidr=10.244.0.0/16,fd00:10:244::/64";
/// The pod with the endpoints of this node.
pub(crate) const LOCAL: &str = "kubia-4f2c1";
/// The pod that is a client.
pub(crate) const INSIDE: &str = "kubia-9d8xk";
/// The addresses of the node, IPv4 and IPv6, each on another interface.
pub(crate) const NODE_ADDRESSES: [(&str, &str); 3] = [
    ("10.0.0.1", "fd00:a::1"),
    ("10.1.0.1", "fd00:b::1"),
    ("10.244.0.1", "fd00:10:244::1"),
];

/// Where a Service is: its number is the last part of all its addresses.
pub(crate) struct Place(pub(crate) u8);

impl Place {
    fn pair(&self, v4: [u8; 3], v6: [u16; 4]) -> [IpAddr; 2] {
        let ([a, b, c], [d, e, f, g]) = (v4, v6);
        [
            Ipv4Addr::new(a, b, c, self.0).into(),
            Ipv6Addr::new(d, e, f, g, 0, 0, 0, self.0.into()).into(),
        ]
    }

    pub(crate) fn cluster_ips(&self) -> [IpAddr; 2] {
        self.pair([10, 96, 1], [0xfd00, 0x10, 0x96, 0])
    }

    pub(crate) fn external_ips(&self) -> [IpAddr; 2] {
        self.pair([203, 0, 113], [0x2001, 0xdb8, 0xe, 0])
    }

    pub(crate) fn load_balancer(&self) -> [IpAddr; 2] {
        self.pair([198, 51, 100], [0x2001, 0xdb8, 0xb, 0])
    }

    pub(crate) fn node_port(&self) -> u16 {
        31_000 + u16::from(self.0)
    }

    /// Every address but the cluster IPs, with its port.
    pub(crate) fn others(&self) -> Vec<SocketAddr> {
        let listed = self.external_ips().into_iter().chain(self.load_balancer());
        let node = NODE_ADDRESSES.into_iter().flat_map(|(v4, v6)| [v4, v6]);
        let node = node.map(|ip| SocketAddr::new(ip.parse().unwrap(), self.node_port()));
        listed.map(|ip| SocketAddr::new(ip, 80)).chain(node).collect()
    }

    /// A Service that is to be found in every way, without endpoints.
    pub(crate) fn service(&self, name: &str) -> Service {
        Service::new(name)
            .sliced()
            .cluster_ips(&self.cluster_ips())
            .field(&format!("externalIPs: {:?}", self.external_ips()))
            .load_balancer(&self.load_balancer())
            .node_port("tcp", "TCP", 80, "8080", self.node_port())
            .node_port("udp", "UDP", 80, "8080", self.node_port())
    }
}

/// The slices of a Service with these endpoints.
pub(crate) fn slices(lab: &Lab, name: &str, endpoints: &str) -> String {
    let endpoint = |letter| {
        let pod = |name| lab.pod(name).unwrap().addresses;
        let (addresses, node, conditions) = match letter {
            'L' => (pod(LOCAL), HERE, ""),
            'R' => (pod(REMOTE), "there", ""),
            'T' => (pod(LOCAL), HERE, "ready: false, serving: true, terminating: true"),
            'N' => (pod("kubia-s7b0q"), HERE, "ready: false, serving: false"),
            _ => unreachable!("no endpoint {letter}"),
        };
        Endpoint {
            addresses,
            node,
            conditions,
        }
    };
    let endpoints: Vec<_> = endpoints.chars().map(endpoint).collect();
    manifest::slices(name, &[("tcp", "TCP", 8080), ("udp", "UDP", 8080)], &endpoints)
}

/// A lab with pods here and one there, whose client knows the way to every address.
pub(crate) fn lab(mode: &str) -> Lab {
    let lab = Lab::new(&Topology {
        remote: true,
        ..topology(mode)
    })
    .unwrap();
    lab.client
        .ip("route add 203.0.113.0/24 via 10.0.0.1
             route add 198.51.100.0/24 via 10.0.0.1
             route add 2001:db8::/32 via fd00:a::1")
        .unwrap();
    lab
}

/// svcproxy in the lab with these manifests and flags.
pub(crate) fn run(mode: &str, lab: &Lab, manifests: &str, flags: &[&str]) -> Daemon {
    lab.set_manifests(&[("services.yaml", manifests)]).unwrap();
    let usual = [
        "--iface=eth0",
        "--iface=eth1",
        "--mode",
        mode,
        "--hostname-override",
        HERE,
    ];
    lab.start_daemon_with(&[&usual, flags].concat()).unwrap()
}

/// Both, with manifests that speak of the lab, and the networks of its pods known.
pub(crate) fn start(mode: &str, manifests: impl FnOnce(&Lab) -> String) -> (Daemon, Lab) {
    let lab = lab(mode);
    let daemon = run(mode, &lab, &manifests(&lab), &[POD_NETWORKS]);
    (daemon, lab)
}

/// How many packets have met a fate for this reason.
pub(crate) fn counted(lab: &Lab, reason: &str) -> u64 {
    let reasons = lab.get(&["reasons"]).unwrap();
    let mut rows = reasons.lines().map(str::split_whitespace);
    let row = rows.find_map(|mut row| (row.next() == Some(reason)).then_some(row));
    row.unwrap().next().unwrap().parse().unwrap()
}

/// What is to become of the connections of one client to one address.
#[derive(Clone)]
pub(crate) struct Case {
    what: String,
    protocol: Protocol,
    target: SocketAddr,
    /// Every outcome that may be and must be seen.
    expected: BTreeSet<String>,
}

/// What a cell of the table says, for a client with `own` addresses.
fn expected(cell: &str, own: [IpAddr; 2], target: SocketAddr) -> BTreeSet<String> {
    let family = usize::from(target.is_ipv6());
    let (masqueraded, letters) = match cell {
        "refuse" => return [Outcome::Refused.to_string()].into(),
        "drop" => return [Outcome::Silence.to_string()].into(),
        _ => (cell.starts_with('~'), cell.trim_start_matches('~')),
    };
    let outcome = |letter| {
        let (pod, [v4, v6]) = match letter {
            'R' => (REMOTE, ["10.1.0.1", "fd00:b::1"]),
            _ => (LOCAL, ["10.244.0.1", "fd00:10:244::1"]),
        };
        let node = [v4, v6][family].parse().unwrap();
        let source = if masqueraded { node } else { own[family] };
        let pod = pod.to_owned();
        Outcome::Answer { pod, source }.to_string()
    };
    letters.chars().map(outcome).collect()
}

/// Tries all cases from a namespace at the same time; returns what went otherwise.
pub(crate) fn try_all(from: &Namespace, cases: Vec<Case>) -> Vec<String> {
    let run = async {
        let mut running: JoinSet<_> = cases.into_iter().map(one).collect();
        let mut wrong = Vec::new();
        while let Some(result) = running.join_next().await {
            wrong.extend(result.unwrap());
        }
        wrong.sort();
        wrong
    };
    from.enter(|| client::block_on(run))
}

/// Tries a case until all that is expected has been seen, or something else.
async fn one(case: Case) -> Option<String> {
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        seen.insert(probe::probe(case.protocol, case.target).await.to_string());
        if seen == case.expected || !seen.is_subset(&case.expected) {
            break;
        }
    }
    let Case {
        what,
        protocol,
        target,
        expected,
    } = case;
    (seen != expected).then(|| format!("{what} {protocol:?} {target}: {seen:?} instead of {expected:?}"))
}

#[track_caller]
pub(crate) fn assert_all(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The same expectation of several addresses.
pub(crate) fn cases(
    what: &str,
    cell: &str,
    own: [IpAddr; 2],
    targets: impl IntoIterator<Item = SocketAddr>,
) -> Vec<Case> {
    let case = |target| {
        [Protocol::Tcp, Protocol::Udp].map(|protocol| Case {
            what: what.to_owned(),
            protocol,
            target,
            expected: expected(cell, own, target),
        })
    };
    targets.into_iter().flat_map(case).collect()
}

/// Asks from a namespace once.
pub(crate) fn ask(from: &Namespace, protocol: Protocol, target: SocketAddr) -> Outcome {
    from.enter(|| client::block_on(probe::probe(protocol, target)))
}
