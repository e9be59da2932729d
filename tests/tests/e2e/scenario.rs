//! The usual scene: three pods behind the Service `kubia` of both families, svcproxy in the node.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
};

use svcproxy_tests::{
    client::{self, Connection, Tally},
    daemon::Daemon,
    lab::{Lab, Pod},
    manifest::{self, Service},
    namespace::Namespace,
    payload,
    topology::Topology,
};

/// TCP port of `kubia` that the pods serve on 8080.
pub(crate) const HTTP: u16 = 80;

/// TCP port of `kubia` that the pods serve on 8443.
pub(crate) const HTTPS: u16 = 443;

/// UDP port of `kubia` that the pods serve on 8080.
pub(crate) const ECHO: u16 = 7;

/// A lab, a daemon in it, and where `kubia` is.
pub(crate) struct Scenario {
    /// Dropped first: its log is printed while it still exists.
    pub(crate) daemon: Daemon,
    pub(crate) lab: Lab,
    /// The cluster IPs of `kubia`, IPv4 first.
    pub(crate) ips: [IpAddr; 2],
}

/// The topology that fits a mode: a wire for XDP, a kernel that leaves checksums to others for tc.
pub(crate) fn topology(mode: &str) -> Topology {
    Topology {
        wire: mode == "xdp",
        ..Topology::default()
    }
}

/// The Service `kubia`.
pub(crate) fn kubia() -> Service {
    Service::new("kubia")
        .port("http", "TCP", HTTP, "8080")
        .port("https", "TCP", HTTPS, "8443")
        .port("echo", "UDP", ECHO, "8080")
}

/// Pods as manifests.
pub(crate) fn pods<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> String {
    pods.into_iter()
        .map(|pod| manifest::pod(&pod.name, &pod.addresses, &[]))
        .collect()
}

impl Scenario {
    /// The usual one.
    pub(crate) fn new(mode: &str) -> Self {
        Self::with(mode, &topology(mode), &kubia())
    }

    /// The usual one, with the machine to itself: for what takes load or measures.
    pub(crate) fn alone(mode: &str) -> Self {
        let topology = Topology {
            alone: true,
            ..topology(mode)
        };
        Self::with(mode, &topology, &kubia())
    }

    /// With a topology and a Service of one's own.
    pub(crate) fn with(mode: &str, topology: &Topology, service: &Service) -> Self {
        let lab = Lab::new(topology).unwrap();
        lab.set_manifests(&[("kubia.yaml", &service.yaml()), ("pods.yaml", &pods(&lab.pods))])
            .unwrap();
        let mut flags = vec!["--iface", "eth0", "--mode", mode];
        if topology.remote {
            flags.extend(["--iface", "eth1"]);
        }
        let daemon = lab.start_daemon_with(&flags).unwrap();
        let ips = lab.cluster_ips("default/kubia").unwrap();
        let ips = ips.try_into().expect("a cluster IP of each family, IPv4 first");
        Self { daemon, lab, ips }
    }

    /// One request of the client over IPv4 and one over IPv6.
    pub(crate) fn visit(&self) {
        for target in self.targets(HTTP) {
            let answer = self.lab.client.enter(|| client::block_on(client::get(target, "/")));
            answer.unwrap();
        }
    }

    /// `kubia` at `port`, over IPv4 and IPv6.
    pub(crate) fn targets(&self, port: u16) -> [SocketAddr; 2] {
        self.ips.map(|ip| SocketAddr::new(ip, port))
    }

    /// Replaces one manifest as an editor does, and waits until svcproxy has said so.
    pub(crate) fn replace(&self, name: &str, text: &str, says: &str) {
        let before = self.daemon.log().len();
        let path = self.lab.directory().join("manifests").join(name);
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, path).unwrap();
        self.daemon.wait_for(says, before).unwrap();
    }

    /// Makes these the endpoints of `kubia`.
    pub(crate) fn set_pods<'a>(&self, endpoints: impl IntoIterator<Item = &'a Pod>) {
        self.replace("pods.yaml", &pods(endpoints), "INFO reloaded");
    }

    /// The names of the pods, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.lab.pods.iter().map(|pod| pod.name.clone()).collect();
        names.sort();
        names
    }
}

/// Asks `target` from the client `count` times, each over a connection of its own.
pub(crate) fn ask(lab: &Lab, target: SocketAddr, count: u32) -> Tally {
    lab.client.enter(|| client::block_on(client::sequential(target, count)))
}

/// Asserts that exactly `pods` answered, and that nothing failed.
#[track_caller]
pub(crate) fn assert_answered_by<S: AsRef<str>>(tally: &Tally, pods: &[S]) {
    assert!(tally.failures.is_empty(), "{tally}");
    let answered = tally.answers.keys().map(String::as_str);
    assert!(answered.eq(pods.iter().map(AsRef::as_ref)), "{tally}");
}

/// So many bytes arrive intact, down and up one connection.
#[track_caller]
pub(crate) fn assert_transferred(from: &Namespace, target: SocketAddr, length: u64) {
    let (down, up) = from.enter(|| {
        client::block_on(async {
            let mut connection = Connection::open(target).await.unwrap();
            let down = connection.download(length).await.unwrap();
            (down, connection.upload(length).await.unwrap())
        })
    });
    let expected = payload::hash(length);
    assert_eq!((&down, &up), (&expected, &expected), "{target}");
}
