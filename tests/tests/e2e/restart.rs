//! The daemon comes and goes; connections, addresses and the datapath stay.

use std::{
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use svcproxy_tests::{
    client::{self, Connection},
    payload,
    topology::{PodSpec, Topology},
};

use crate::{
    health::{HEALTHZ, get},
    over_xdp_and_tc,
    scenario::{ECHO, HTTP, Scenario, ask, assert_answered_by, kubia, pods, topology},
};

over_xdp_and_tc!(
    connections_outlive_the_daemon,
    addresses_outlive_the_daemon,
    a_pod_is_replaced_behind_its_service,
    the_daemon_may_be_killed,
    connections_outlive_a_change_of_hooks,
    pieces_are_put_together_throughout_a_restart,
    all_packets_are_taken_from_the_first_on,
);

/// A download of four seconds, the daemon stopped and started again in its midst.
fn connections_outlive_the_daemon(mode: &str) {
    let Scenario { daemon, lab, ips } = Scenario::new(mode);
    let targets = ips.map(|ip| (ip, HTTP).into());
    let length = 60_000_000;
    thread::scope(|scope| {
        let downloads = targets.map(|target| {
            let client = lab.client.clone();
            scope.spawn(move || {
                client.enter(|| {
                    client::block_on(async {
                        let mut connection = Connection::open(target).await.unwrap();
                        connection.download_at(15_000_000, length).await
                    })
                })
            })
        });
        thread::sleep(Duration::from_millis(500));
        assert!(daemon.stop().unwrap().success());
        for target in targets {
            let tally = ask(&lab, target, 100);
            assert!(tally.failures.is_empty(), "new connections without the daemon: {tally}");
        }
        assert!(
            downloads.iter().all(|download| !download.is_finished()),
            "the download is too short for this test"
        );
        let _daemon = lab.start_daemon(mode).unwrap();
        for target in targets {
            let tally = ask(&lab, target, 100);
            assert!(tally.failures.is_empty(), "new connections after the restart: {tally}");
        }
        for download in downloads {
            assert_eq!(download.join().unwrap().unwrap(), payload::hash(length));
        }
    });
}

/// Other files in another order, another Service before it: the address is its own.
fn addresses_outlive_the_daemon(mode: &str) {
    let Scenario { daemon, lab, ips } = Scenario::new(mode);
    assert!(daemon.stop().unwrap().success());
    let other = svcproxy_tests::manifest::Service::new("another").port("http", "TCP", 80, "8080");
    lab.set_manifests(&[
        ("0-another.yaml", &other.yaml()),
        ("1-pods.yaml", &pods(&lab.pods)),
        ("2-kubia.yaml", &kubia().yaml()),
    ])
    .unwrap();
    let _daemon = lab.start_daemon(mode).unwrap();
    assert_eq!(lab.cluster_ips("default/kubia").unwrap(), ips);
    let another = lab.cluster_ips("default/another").unwrap();
    assert!(another.iter().all(|ip| !ips.contains(ip)), "{another:?}");
    let names: Vec<_> = lab.pods.iter().map(|pod| pod.name.as_str()).collect();
    for ip in ips.into_iter().chain(another) {
        assert_answered_by(&ask(&lab, (ip, HTTP).into(), 90), &names);
    }
}

fn a_pod_is_replaced_behind_its_service(mode: &str) {
    let Scenario { daemon, mut lab, ips } = Scenario::new(mode);
    assert!(daemon.stop().unwrap().success());
    let old = lab.pods[0].name.clone();
    lab.remove_pod(&old).unwrap();
    lab.add_pod(&PodSpec::new("kubia-zz9", 99)).unwrap();
    lab.set_manifests(&[("kubia.yaml", &kubia().yaml()), ("pods.yaml", &pods(&lab.pods))])
        .unwrap();
    let _daemon = lab.start_daemon(mode).unwrap();
    assert_eq!(lab.cluster_ips("default/kubia").unwrap(), ips);
    let names: Vec<_> = lab.pods.iter().map(|pod| pod.name.as_str()).collect();
    for ip in ips {
        assert_answered_by(&ask(&lab, (ip, HTTP).into(), 90), &names);
    }
}

/// `kill -9` is no worse than SIGTERM.
fn the_daemon_may_be_killed(mode: &str) {
    let scenario = Scenario::new(mode);
    let (targets, names) = (scenario.targets(HTTP), scenario.names());
    let Scenario { daemon, lab, ips } = scenario;
    drop(daemon);
    for target in targets {
        assert_answered_by(&ask(&lab, target, 90), &names);
    }
    let _daemon = lab.start_daemon(mode).unwrap();
    assert_eq!(lab.cluster_ips("default/kubia").unwrap(), ips);
    for target in targets {
        assert_answered_by(&ask(&lab, target, 90), &names);
    }
}

/// Datagrams in pieces, one after another: programs take them that are not attached themselves.
fn pieces_are_put_together_throughout_a_restart(mode: &str) {
    let Scenario { daemon, lab, ips } = Scenario::new(mode);
    let (lab, restarted) = (&lab, &AtomicBool::new(false));
    thread::scope(|scope| {
        let senders = ips.map(|ip| scope.spawn(move || lab.client.enter(|| exchange((ip, ECHO).into(), restarted))));
        assert!(daemon.stop().unwrap().success());
        let started = lab.start_daemon(mode);
        restarted.store(true, Relaxed);
        started.unwrap();
        for sender in senders {
            let answered = sender.join().unwrap();
            assert!(answered > 100, "{answered} are too few for this test");
        }
    });
}

/// Sends datagrams in pieces, each of which must be answered, until `done`. Returns how many.
fn exchange(target: SocketAddr, done: &AtomicBool) -> u32 {
    let payload = [7; 4000];
    client::udp(target, &payload).unwrap(); // neighbours are known now
    let socket = UdpSocket::bind((if target.is_ipv4() { "0.0.0.0" } else { "::" }, 0)).unwrap();
    socket.connect(target).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut answered = 0;
    while !done.load(Relaxed) {
        socket.send(&payload).unwrap();
        let length = socket.recv(&mut [0; 8000]);
        assert!(
            length.is_ok(),
            "none of {answered} datagrams was lost, but the next: {length:?}"
        );
        answered += 1;
        // An echo server that never waits keeps its processor, and with it the kernel's RCU: nobody gets on any more.
        thread::sleep(Duration::from_millis(1));
    }
    answered
}

/// On a first start: once a connection is answered, datagrams in pieces are too. The programs that take them are others.
fn all_packets_are_taken_from_the_first_on(mode: &str) {
    let Scenario { daemon, lab, ips } = Scenario::new(mode);
    assert!(daemon.stop().unwrap().success());
    lab.cleanup().unwrap();
    let mut daemon = lab.launch_daemon(&["--iface", "eth0", "--mode", mode]).unwrap();
    let (begun, patience) = (Instant::now(), Duration::from_millis(20));
    while lab
        .client
        .enter(|| TcpStream::connect_timeout(&(ips[0], HTTP).into(), patience))
        .is_err()
    {
        thread::sleep(Duration::from_millis(2));
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", daemon.log());
    }
    for ip in ips {
        let start = Instant::now();
        lab.client.enter(|| client::udp((ip, ECHO).into(), &[7; 4000])).unwrap();
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "{ip}: the first datagram was lost"
        );
    }
    daemon.wait_ready().unwrap();
    assert_eq!(get(&lab.node, HEALTHZ, "/healthz").unwrap().0, 200, "{}", daemon.log());
}

/// Started again with the other `--mode`: a kept connection goes on, new ones work.
fn connections_outlive_a_change_of_hooks(mode: &str) {
    let other = if mode == "xdp" { "tc" } else { "xdp" };
    let scenario = Scenario::with(
        mode,
        &Topology {
            wire: true,
            ..topology(mode)
        },
        &kubia(),
    );
    let targets = scenario.targets(HTTP);
    let Scenario { daemon, lab, .. } = scenario;
    let lab = &lab;
    lab.client.enter(|| {
        client::block_on(async {
            let mut connections = Vec::new();
            for target in targets {
                let mut connection = Connection::open(target).await.unwrap();
                let pod = connection.get("/").await.unwrap();
                connections.push((connection, pod));
            }
            assert!(daemon.stop().unwrap().success());
            let _daemon = lab.start_daemon(other).unwrap();
            for (connection, pod) in &mut connections {
                assert_eq!(connection.get("/").await.unwrap(), *pod);
            }
            for target in targets {
                let tally = client::sequential(target, 30).await;
                assert!(tally.failures.is_empty(), "{tally}");
            }
        });
    });
}
