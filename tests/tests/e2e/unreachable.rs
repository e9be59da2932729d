//! Rule 27, beyond kube-proxy: a client whose endpoint cannot be reached any more is reset instead of left to wait.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use svcproxy_tests::{
    lab::{Lab, Pod},
    topology::{REMOTE, Topology},
};

use crate::{
    over_xdp_and_tc,
    scenario::{HTTP, Scenario, ask, assert_answered_by, kubia, pods, topology},
};

over_xdp_and_tc!(
    rule_27_clients_of_a_pod_whose_interface_is_gone_are_reset,
    rule_27_clients_of_a_pod_that_has_ended_are_reset,
    rule_27_clients_of_an_endpoint_that_is_silent_on_its_link_are_reset,
    rule_27_a_route_that_comes_back_brings_its_connections_back,
);

/// A connection of the client's that is kept between requests.
struct Line {
    stream: TcpStream,
    /// The name of the pod at its other end.
    pod: String,
}

impl Line {
    fn open(lab: &Lab, target: SocketAddr) -> Self {
        let patience = Duration::from_secs(2);
        let stream = lab
            .client
            .enter(|| TcpStream::connect_timeout(&target, patience).unwrap());
        stream.set_nodelay(true).unwrap();
        let mut line = Self {
            stream,
            pod: String::new(),
        };
        line.pod = line.ask().unwrap();
        line
    }

    /// The name in the answer to one request.
    fn ask(&mut self) -> io::Result<String> {
        self.stream.set_read_timeout(Some(Duration::from_millis(300)))?;
        self.stream.write_all(b"GET / HTTP/1.1\r\nhost: kubia\r\n\r\n")?;
        let (mut text, mut buffer) = (String::new(), [0; 1000]);
        loop {
            let length = self.stream.read(&mut buffer)?;
            text.push_str(&String::from_utf8_lossy(&buffer[..length]));
            match text.split_once("\r\n\r\n") {
                Some((_, body)) if body.ends_with('\n') => return Ok(body.trim_end().to_owned()),
                _ if length == 0 => return Err(ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        }
    }

    #[track_caller]
    fn assert_answers(&mut self) {
        assert_eq!(self.ask().unwrap(), self.pod);
    }

    /// Asks until the connection is reset, which must be soon. Until then nothing answers.
    #[track_caller]
    fn assert_reset_within(&mut self, seconds: u64) {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            match self.ask() {
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                other => panic!("neither silence nor a reset but {other:?}"),
            }
            assert!(Instant::now() < deadline, "silence for {seconds} s");
        }
    }
}

/// Connections to one pod, two over each family, and one to another pod.
fn lines(scenario: &Scenario) -> (Vec<Line>, Line) {
    let [v4, v6] = scenario.targets(HTTP);
    let first = Line::open(&scenario.lab, v4);
    let pod = first.pod.clone();
    let to = |target, wanted: &dyn Fn(&str) -> bool| {
        let mut lines = (0..100).map(|_| Line::open(&scenario.lab, target));
        lines.find(|line| wanted(&line.pod)).unwrap()
    };
    let lines = [v4, v6, v6].map(|target| to(target, &|name| name == pod));
    let other = to(v4, &|name| name != pod);
    (std::iter::once(first).chain(lines).collect(), other)
}

impl Scenario {
    /// Asserts that the log says this of both addresses of a pod.
    #[track_caller]
    fn assert_said(&self, pod: &Pod, from: usize, what: &str) {
        for address in pod.addresses {
            let line = format!("endpoint {address} is {what}");
            if let Err(error) = self.daemon.wait_for(&line, from) {
                panic!("{error:#}\n{}", self.daemon.log());
            }
        }
    }
}

fn rule_27_clients_of_a_pod_whose_interface_is_gone_are_reset(mode: &str) {
    interface_gone(&Scenario::new(mode));
}

#[test]
fn rule_27_a_reset_has_the_checksum_that_its_segment_came_with() {
    interface_gone(&Scenario::with("tc", &topology("xdp"), &kubia()));
}

/// What the client's stack has left to a NIC, the node's must complete on the way back: only so the client looks at it.
#[test]
fn rule_27_a_reset_has_a_good_checksum_where_its_segment_had_none_yet() {
    let scenario = Scenario::new("tc");
    scenario.lab.node.run("ethtool", &["-K", "eth0", "tx", "off"]).unwrap();
    interface_gone(&scenario);
}

fn interface_gone(scenario: &Scenario) {
    let (mut lost, mut other) = lines(scenario);
    let pod = scenario.lab.pod(&lost[0].pod).unwrap();
    let rest = || scenario.lab.pods.iter().filter(|other| other.name != pod.name);
    let before = scenario.daemon.log().len();
    scenario.lab.node.ip(&format!("link del {}", pod.interface)).unwrap();
    scenario.assert_said(
        pod,
        before,
        &format!(
            "out of reach: its interface {} is gone; its 2 TCP connections are reset",
            pod.interface
        ),
    );
    let [client, service] =
        [lost[0].stream.local_addr(), lost[0].stream.peer_addr()].map(|end| end.unwrap().to_string());
    let explained = scenario.lab.explain(&[&client, &service, "-o", "json"]).unwrap();
    assert!(explained.contains("\"verdict\":\"reject\""), "{explained}");
    for line in &mut lost {
        line.assert_reset_within(1);
    }
    scenario.set_pods(rest());
    let mut names: Vec<&str> = rest().map(|pod| pod.name.as_str()).collect();
    names.sort_unstable();
    for target in scenario.targets(HTTP) {
        assert_answered_by(&ask(&scenario.lab, target, 60), &names);
    }
    // No endpoint any more, but it answers.
    scenario.set_pods(rest().filter(|pod| pod.name != other.pod));
    other.assert_answers();
}

fn rule_27_clients_of_a_pod_that_has_ended_are_reset(mode: &str) {
    let scenario = Scenario::new(mode);
    let (mut lost, mut other) = lines(&scenario);
    let pod = scenario.lab.pod(&lost[0].pod).unwrap();
    let rest: Vec<&Pod> = scenario
        .lab
        .pods
        .iter()
        .filter(|other| other.name != pod.name)
        .collect();
    let before = scenario.daemon.log().len();
    let failed = pods([pod]).replace("phase: Running", "phase: Failed");
    let manifest = failed + &pods(rest.iter().copied());
    scenario.replace("pods.yaml", &manifest, "INFO reloaded");
    let said = format!(
        "out of reach: its pod {} has ended; its 2 TCP connections are reset",
        pod.name
    );
    scenario.assert_said(pod, before, &said);
    for line in &mut lost[1..] {
        line.assert_reset_within(1);
    }
    let mut names: Vec<&str> = rest.iter().map(|pod| pod.name.as_str()).collect();
    names.sort_unstable();
    for target in scenario.targets(HTTP) {
        assert_answered_by(&ask(&scenario.lab, target, 60), &names);
    }
    // The Pod stays ended when its manifest goes.
    scenario.set_pods(rest.iter().copied());
    other.assert_answers();
    lost[0].assert_reset_within(1);
}

fn rule_27_clients_of_an_endpoint_that_is_silent_on_its_link_are_reset(mode: &str) {
    let topology = Topology {
        remote: true,
        pods: Vec::new(),
        ..topology(mode)
    };
    let scenario = Scenario::with(mode, &topology, &kubia());
    let mut lines = scenario.targets(HTTP).map(|target| Line::open(&scenario.lab, target));
    let remote = scenario.lab.pod(REMOTE).unwrap();
    for line in &mut lines {
        line.assert_answers();
    }
    // It has another address now. The node forgets its hardware address sooner than of itself, after half a minute.
    remote.namespace.ip("addr flush dev eth0").unwrap();
    scenario.lab.node.ip("neigh flush dev eth1").unwrap();
    let started = Instant::now();
    for line in &mut lines {
        line.assert_reset_within(20);
    }
    assert!(
        started.elapsed() > Duration::from_secs(3),
        "a few lost questions are not enough"
    );
    scenario.assert_said(
        remote,
        0,
        "out of reach: it does not answer on the link of eth1; its TCP connection is reset",
    );
}

/// Nobody sends, and the node's kernel would not see it either: the daemon asks.
#[test]
fn rule_27_silence_is_noticed_before_a_client_sends() {
    let topology = Topology {
        remote: true,
        pods: Vec::new(),
        ..topology("xdp")
    };
    let scenario = Scenario::with("xdp", &topology, &kubia());
    let remote = scenario.lab.pod(REMOTE).unwrap();
    for family in ["ipv4", "ipv6"] {
        // What takes the kernel a minute shall take it one second.
        let settings = [
            "base_reachable_time_ms=500",
            "delay_first_probe_time=0",
            "retrans_time_ms=200",
        ];
        let settings = settings.map(|setting| format!("{family}/neigh/eth1/{setting}"));
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        scenario.lab.node.sysctl(&settings).unwrap();
    }
    let mut lines = scenario.targets(HTTP).map(|target| Line::open(&scenario.lab, target));
    // The kernel's own questions after the last packet are over.
    thread::sleep(Duration::from_secs(3));
    remote.namespace.ip("addr flush dev eth0").unwrap();
    scenario.assert_said(remote, 0, "out of reach: it does not answer on the link of eth1");
    for line in &mut lines {
        line.assert_reset_within(1);
    }
}

fn rule_27_a_route_that_comes_back_brings_its_connections_back(mode: &str) {
    let mut scenario = Scenario::new(mode);
    let (mut lines, _) = lines(&scenario);
    let pod = scenario.lab.pod(&lines[0].pod).unwrap();
    let [v4, v6] = pod.addresses;
    let routes = |verb: &str| {
        let interface = &pod.interface;
        let commands = format!("route {verb} {v4}/32 dev {interface}\nroute {verb} {v6}/128 dev {interface}");
        scenario.lab.node.ip(&commands).unwrap();
    };
    let before = scenario.daemon.log().len();
    routes("del");
    scenario.assert_said(pod, before, "out of reach: its route");
    lines[0].assert_reset_within(1);
    lines[2].assert_reset_within(1);
    let before = scenario.daemon.log().len();
    routes("add");
    scenario.assert_said(pod, before, "within reach again");
    lines[1].assert_answers();
    lines[3].assert_answers();

    // The next daemon finds connections that the last has marked.
    let before = scenario.daemon.log().len();
    routes("del");
    scenario.assert_said(pod, before, "out of reach: its route");
    assert!(scenario.daemon.stop().unwrap().success());
    routes("add");
    scenario.daemon = scenario.lab.start_daemon(mode).unwrap();
    lines[1].assert_answers();
    lines[3].assert_answers();
}
