//! Processes on the node itself reach Services by their sockets: without a route to them, without a translated packet.

use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use svcproxy::datapath::sockets::cgroup_root;
use svcproxy_tests::{
    client,
    lab::Lab,
    topology::{NODE, Topology},
};

use crate::{
    network::eventually,
    scenario::{ECHO, HTTP, Scenario, assert_answered_by, kubia, pods, topology},
};

const NODE_PORT: u16 = 30_080;
const NODE_PORT_ECHO: u16 = 30_007;
const EXTERNAL: [&str; 2] = ["198.51.100.7", "fd00:e::7"];
const BALANCER: [&str; 2] = ["203.0.113.9", "fd00:1b::9"];

/// `kubia` at every kind of address. That the external ones are for local endpoints only, of which there are none, is not
/// for the node (rule 13).
fn exposed() -> String {
    let [external_v4, external_v6] = EXTERNAL;
    let [balancer_v4, balancer_v6] = BALANCER;
    let spec = format!(
        "spec:\n  type: LoadBalancer\n  externalTrafficPolicy: Local\n  externalIPs: [{external_v4}, \"{external_v6}\"]\n"
    );
    let service = kubia()
        .yaml()
        .replace("spec:\n", &spec)
        .replace(
            "      port: 80\n",
            &format!("      port: 80\n      nodePort: {NODE_PORT}\n"),
        )
        .replace(
            "      port: 7\n",
            &format!("      port: 7\n      nodePort: {NODE_PORT_ECHO}\n"),
        );
    format!("{service}status:\n  loadBalancer:\n    ingress: [{{ip: {balancer_v4}}}, {{ip: \"{balancer_v6}\"}}]\n")
}

/// An endpoint that no Pod stands for, as a Service without a selector and its EndpointSlice.
fn by_hand(name: &str, spec: &str, endpoint: Option<SocketAddr>) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n{spec}  ports:\n    - {{name: http, port: 80, targetPort: 8080}}\n    - {{name: echo, port: 7, protocol: UDP, targetPort: 8080}}\n"
    );
    if let Some(endpoint) = endpoint {
        text.push_str(&format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-1\n  labels:\n    kubernetes.io/service-name: {name}\naddressType: IPv4\nports:\n  - {{name: http, port: {port}}}\n  - {{name: echo, port: {port}, protocol: UDP}}\nendpoints:\n  - addresses: [{ip}]\n",
            port = endpoint.port(),
            ip = endpoint.ip(),
        ));
    }
    text
}

/// The usual scene, with `manifest` in place of the Service.
fn scene(manifest: &str) -> Scenario {
    let lab = Lab::new(&topology("tc")).unwrap();
    lab.set_manifests(&[("kubia.yaml", manifest), ("pods.yaml", &pods(&lab.pods))])
        .unwrap();
    let daemon = lab.start_daemon("tc").unwrap();
    let ips = lab.cluster_ips("default/kubia").unwrap().try_into().unwrap();
    Scenario { daemon, lab, ips }
}

/// A socket for datagrams to `target`.
fn datagrams(target: SocketAddr) -> UdpSocket {
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    socket
}

/// Who answers a datagram of `socket`, which must seem to be `target`.
#[track_caller]
fn exchange(socket: &UdpSocket, target: SocketAddr) -> String {
    socket.send_to(b"hello", target).unwrap();
    let mut buffer = [0; 100];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from, target);
    let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
    answer.strip_suffix(" hello").expect("an echo").to_owned()
}

/// An IPv4 address as an IPv6 socket has it.
fn mapped(target: SocketAddr) -> SocketAddr {
    match target.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), target.port()),
        IpAddr::V6(_) => target,
    }
}

/// Sends a datagram to `target`: the error of the system call.
fn send(target: SocketAddr) -> Option<ErrorKind> {
    datagrams(target)
        .send_to(b"hello", target)
        .err()
        .map(|error| error.kind())
}

/// Connects to `target`: the error, and whether it came at once.
fn connect(target: SocketAddr) -> Option<ErrorKind> {
    let start = Instant::now();
    let error = TcpStream::connect(target).err()?;
    assert!(start.elapsed() < Duration::from_secs(1), "{error}");
    Some(error.kind())
}

#[test]
fn rule_13_the_node_reaches_every_address_of_a_service() {
    let scenario = scene(&exposed());
    let names = scenario.names();
    let routes = scenario.lab.node.run("ip", &["route", "show", "table", "all"]).unwrap();
    assert!(!routes.contains("default") && !routes.contains("10.96."), "{routes}");
    let at = |ips: [&str; 2], tcp, udp| ips.map(|ip| (ip.parse().unwrap(), tcp, udp));
    let ways = scenario.ips.map(|ip| (ip, HTTP, ECHO)).into_iter();
    let ways = ways
        .chain(NODE.map(|ip| (ip, NODE_PORT, NODE_PORT_ECHO)))
        .chain(at(EXTERNAL, HTTP, ECHO))
        .chain(at(BALANCER, HTTP, ECHO));
    for (ip, tcp, udp) in ways {
        let (tcp, udp) = (SocketAddr::new(ip, tcp), SocketAddr::new(ip, udp));
        scenario.lab.node.enter(|| {
            assert_answered_by(&client::block_on(client::sequential(tcp, 40)), &names);
            assert_answered_by(&client::udp_sequential(udp, 40), &names);
            assert_eq!(TcpStream::connect(tcp).unwrap().peer_addr().unwrap(), tcp);
            let connected = datagrams(udp);
            connected.connect(udp).unwrap();
            assert_eq!(connected.peer_addr().unwrap(), udp);
            connected.send(b"hello").unwrap();
            let mut buffer = [0; 100];
            let (length, from) = connected.recv_from(&mut buffer).unwrap();
            assert!(buffer[..length].ends_with(b" hello"));
            assert_eq!(from, udp);
        });
    }
    let [v4, v6] = scenario.targets(HTTP);
    for (target, source) in [(v4, "10.244.0.1"), (v6, "fd00:10:244::1")] {
        let seen = scenario
            .lab
            .node
            .enter(|| client::block_on(client::get(target, "/peer")));
        assert_eq!(seen.unwrap(), source, "the kernel's choice towards the pod");
    }
    let loopback = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), NODE_PORT);
    for loopback in [SocketAddr::from(([127, 0, 0, 1], NODE_PORT)), loopback] {
        let outcome = scenario.lab.node.enter(|| connect(loopback));
        assert_eq!(outcome, Some(ErrorKind::ConnectionRefused), "rule 16: never there");
    }
}

#[test]
fn an_ipv6_socket_reaches_an_ipv4_service() {
    let scenario = Scenario::new("tc");
    let [tcp, udp] = [HTTP, ECHO].map(|port| mapped(scenario.targets(port)[0]));
    scenario.lab.node.enter(|| {
        assert_answered_by(&client::block_on(client::sequential(tcp, 40)), &scenario.names());
        assert_eq!(TcpStream::connect(tcp).unwrap().peer_addr().unwrap(), tcp);
        let socket = datagrams(udp);
        let first = exchange(&socket, udp);
        assert!((0..10).all(|_| exchange(&socket, udp) == first));
        socket.connect(udp).unwrap();
        assert_eq!(socket.peer_addr().unwrap(), udp);
        socket.send(b"hello").unwrap();
        let (_, from) = socket.recv_from(&mut [0; 100]).unwrap();
        assert_eq!(from, udp);
    });
}

#[test]
fn section_3_refusals_are_errors_of_the_system_call() {
    use ErrorKind::{ConnectionRefused, PermissionDenied, TimedOut};

    let lab = Lab::new(&topology("tc")).unwrap();
    let local = kubia()
        .yaml()
        .replace("spec:\n", "spec:\n  internalTrafficPolicy: Local\n");
    let empty = by_hand("empty", "  clusterIP: 10.96.0.77\n", None);
    lab.set_manifests(&[("services.yaml", &(local + &empty)), ("pods.yaml", &pods(&lab.pods))])
        .unwrap();
    let _daemon = lab.start_daemon("tc").unwrap();
    let [kubia, _] = lab.cluster_ips("default/kubia").unwrap()[..] else {
        panic!("two cluster IPs")
    };
    let empty: IpAddr = "10.96.0.77".parse().unwrap();
    lab.node.enter(|| {
        for (what, ip, port, tcp, udp) in [
            (
                "no endpoint anywhere",
                empty,
                [HTTP, ECHO],
                ConnectionRefused,
                ConnectionRefused,
            ),
            ("no such port", empty, [81, 81], ConnectionRefused, ConnectionRefused),
            (
                "none on this node, and a Local policy",
                kubia,
                [HTTP, ECHO],
                TimedOut,
                PermissionDenied,
            ),
            (
                "no such Service",
                "10.96.99.99".parse().unwrap(),
                [HTTP, ECHO],
                TimedOut,
                PermissionDenied,
            ),
        ] {
            for ip in [SocketAddr::new(ip, 0), mapped(SocketAddr::new(ip, 0))].map(|target| target.ip()) {
                assert_eq!(connect((ip, port[0]).into()), Some(tcp), "{what}");
                assert_eq!(send((ip, port[1]).into()), Some(udp), "{what}");
            }
        }
    });
}

#[test]
fn the_endpoint_may_be_the_node_itself() {
    let lab = Lab::new(&topology("tc")).unwrap();
    let [node, _] = NODE;
    let listener = lab.node.enter(|| TcpListener::bind((node, 0)).unwrap());
    let here = listener.local_addr().unwrap();
    lab.set_manifests(&[("here.yaml", &by_hand("here", "", Some(here)))])
        .unwrap();
    let _daemon = lab.start_daemon("tc").unwrap();
    let target = SocketAddr::new(lab.cluster_ips("default/here").unwrap()[0], HTTP);
    lab.node.enter(|| {
        let stream = TcpStream::connect(target).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), target);
        let (_, from) = listener.accept().unwrap();
        assert_eq!(from, stream.local_addr().unwrap());
    });
}

/// Another namespace has other processes, though they are in the same cgroup. The client has a route to the pods only.
#[test]
fn only_sockets_of_the_nodes_namespace_are_led() {
    let scenario = Scenario::new("tc");
    let [target, _] = scenario.targets(HTTP);
    let lab = &scenario.lab;
    scenario.visit();
    assert_eq!(entries(lab, "sockets_v4"), 0, "clients of the node are packets to it");
    lab.client.ip("route del 10.96.0.0/12").unwrap();
    let unreachable = lab.client.enter(|| connect(target));
    assert_eq!(unreachable, Some(ErrorKind::NetworkUnreachable));
    assert_eq!(lab.node.enter(|| connect(target)), None);
    assert_eq!(entries(lab, "sockets_v4"), 2, "one socket, both ways");
}

/// How many entries a map has.
fn entries(lab: &Lab, map: &str) -> usize {
    let path = lab.pin_dir().join(map);
    let dump = ["--json", "map", "dump", "pinned", &path.to_string_lossy()];
    let text = lab.node.run("bpftool", &dump).unwrap();
    let entries: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    entries.len()
}

/// A datagram's endpoint is remembered until it is gone.
#[test]
fn rule_26_datagrams_leave_an_endpoint_that_is_gone() {
    let scenario = Scenario::new("tc");
    let lab = &scenario.lab;
    for target in scenario.targets(ECHO) {
        let socket = lab.node.enter(|| datagrams(target));
        let first = exchange(&socket, target);
        assert!((0..20).all(|_| exchange(&socket, target) == first));
        let others = lab.pods.iter().filter(|pod| pod.name != first);
        lab.set_manifests(&[("kubia.yaml", &kubia().yaml()), ("pods.yaml", &pods(others))])
            .unwrap();
        scenario.daemon.signal(Signal::SIGHUP).unwrap();
        eventually("another pod answers", || exchange(&socket, target) != first);
    }
}

#[test]
fn rule_29_the_nodes_sockets_outlive_the_daemon_until_cleanup() {
    let Scenario { daemon, lab, ips } = Scenario::new("tc");
    let [target, _] = ips.map(|ip| SocketAddr::new(ip, HTTP));
    let [echo, _] = ips.map(|ip| SocketAddr::new(ip, ECHO));
    let (stream, socket) = lab
        .node
        .enter(|| (TcpStream::connect(target).unwrap(), datagrams(echo)));
    let first = exchange(&socket, echo);
    let links = || {
        let links = fs::read_dir(lab.pin_dir().join("links")).unwrap();
        let names = links.map(|link| link.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("cgroup-")).collect();
        names.sort();
        names
    };
    let before = links();
    assert_eq!(before.len(), 8, "{before:?}");

    assert!(daemon.stop().unwrap().success());
    assert_eq!(lab.node.enter(|| connect(target)), None);
    assert_eq!(exchange(&socket, echo), first);
    let daemon = lab.start_daemon("tc").unwrap();
    assert_eq!(links(), before);
    assert_eq!(lab.node.enter(|| connect(target)), None);
    assert_eq!(exchange(&socket, echo), first);
    assert_eq!(stream.peer_addr().unwrap(), target);

    assert!(daemon.stop().unwrap().success());
    lab.cleanup().unwrap();
    let unreachable = lab.node.enter(|| connect(target));
    assert_eq!(unreachable, Some(ErrorKind::NetworkUnreachable));
    assert_eq!(
        stream.peer_addr().unwrap().port(),
        8080,
        "nobody hides the pod any more"
    );
}

#[test]
fn a_cgroup_root_of_ones_own_is_for_its_processes() {
    let cgroup = Cgroup::new();
    let lab = Lab::new(&topology("tc")).unwrap();
    lab.set_manifests(&[("kubia.yaml", &kubia().yaml()), ("pods.yaml", &pods(&lab.pods))])
        .unwrap();
    let flags = ["--iface", "eth0", "--cgroup-root", &cgroup.0];
    let _daemon = lab.start_daemon_with(&flags).unwrap();
    let target = SocketAddr::new(lab.cluster_ips("default/kubia").unwrap()[0], HTTP);
    assert_eq!(lab.node.enter(|| connect(target)), Some(ErrorKind::NetworkUnreachable));
    let script = format!(
        "echo $$ > {}/cgroup.procs && exec 3<>/dev/tcp/{}/{HTTP}",
        cgroup.0,
        target.ip()
    );
    lab.node.run("bash", &["-c", &script]).unwrap();
}

/// A cgroup of a test's own.
struct Cgroup(String);

impl Cgroup {
    fn new() -> Self {
        let root = cgroup_root().unwrap().expect("a cgroup2 file system");
        let dir = format!("{}/svcproxy-test-{}", root.display(), std::process::id());
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("{}: {error}", self.0);
        }
    }
}

#[test]
fn a_cgroup_root_that_is_none_is_refused() {
    let bare = Topology {
        pods: Vec::new(),
        ..topology("tc")
    };
    let lab = Lab::new(&bare).unwrap();
    lab.set_manifests(&[("kubia.yaml", &kubia().yaml())]).unwrap();
    let (status, said) = lab.run_daemon(&["--iface", "eth0", "--cgroup-root", "/tmp"]).unwrap();
    assert!(!status.success());
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains("/tmp") && last.contains("--cgroup-root"), "{said}");
    assert!(!lab.pin_dir().exists(), "a refused start leaves nothing");
}

#[test]
fn without_cgroup2_the_rest_works() {
    let lab = Lab::new(&topology("tc")).unwrap();
    lab.set_manifests(&[("kubia.yaml", &kubia().yaml()), ("pods.yaml", &pods(&lab.pods))])
        .unwrap();
    let script = "umount -a -t cgroup2 && exec timeout 3 \"$@\"";
    let without = ["unshare", "--mount", "sh", "-c", script, "sh"];
    let (_, said) = lab.run_daemon_under(&without, &["--iface", "eth0"]).unwrap();
    assert!(said.lines().any(|line| line.ends_with(" ready")), "{said}");
    let warned = |line: &str| line.contains("WARN") && line.contains("cgroup2");
    assert!(said.lines().any(warned), "{said}");
    let target = SocketAddr::new(lab.cluster_ips("default/kubia").unwrap()[0], HTTP);
    assert_eq!(lab.client.enter(|| connect(target)), None);
    assert_eq!(lab.node.enter(|| connect(target)), Some(ErrorKind::NetworkUnreachable));
}
