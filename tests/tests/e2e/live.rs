//! The manifests change while traffic runs: no packet of a connection that stays is lost, and what is gone is left.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use svcproxy_tests::{
    client::{self, Connection, Tally},
    lab::Pod,
};

use crate::{
    over_xdp_and_tc,
    scenario::{ECHO, HTTP, Scenario, ask, assert_answered_by, kubia, pods},
};

over_xdp_and_tc!(
    rule_28_endpoints_change_under_load_and_nothing_fails,
    rule_28_a_bad_file_changes_nothing,
    rule_26_udp_leaves_an_endpoint_that_is_gone_at_once,
    rule_26_packets_on_their_way_restore_nothing,
    rule_27_tcp_outlives_its_endpoint_and_its_service,
    a_hangup_reads_the_manifests_again,
);

/// Requests without a pause, each over a connection of its own, while the endpoints change ten times.
fn rule_28_endpoints_change_under_load_and_nothing_fails(mode: &str) {
    let scenario = Scenario::new(mode);
    let [target, _] = scenario.targets(HTTP);
    let all: Vec<&Pod> = scenario.lab.pods.iter().collect();
    let changing = AtomicBool::new(true);
    let tally = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut tally = Tally::default();
            while changing.load(Ordering::Relaxed) {
                tally.join(ask(&scenario.lab, target, 50));
            }
            tally
        });
        for turn in 0..10 {
            let chosen = all.iter().enumerate().filter(|(index, _)| index % 3 != turn % 3);
            scenario.set_pods(chosen.map(|(_, pod)| *pod));
        }
        changing.store(false, Ordering::Relaxed);
        load.join().unwrap()
    });
    assert!(tally.total() > 100, "no load to speak of: {tally}");
    assert!(tally.failures.is_empty(), "{tally}");
    scenario.set_pods(all[..1].iter().copied());
    assert_answered_by(&ask(&scenario.lab, target, 30), &[&all[0].name]);
}

fn rule_28_a_bad_file_changes_nothing(mode: &str) {
    let scenario = Scenario::new(mode);
    let [target, _] = scenario.targets(HTTP);
    let [first, rest @ ..] = scenario.lab.pods.as_slice() else {
        panic!("the lab has pods")
    };
    scenario.set_pods([first]);
    let broken = kubia().port("", "TCP", 0, "8080").yaml();
    for (name, text) in [("kubia.yaml", broken.as_str()), ("other.yaml", "kind: [")] {
        scenario.replace(name, text, "not reloaded: the last good state stays");
    }
    // Good by itself, in a directory that is not.
    scenario.replace("pods.yaml", &pods(rest), "not reloaded: the last good state stays");
    assert_answered_by(&ask(&scenario.lab, target, 30), &[&first.name]);

    let before = scenario.daemon.log().len();
    fs::remove_file(scenario.lab.directory().join("manifests/other.yaml")).unwrap();
    scenario.replace("kubia.yaml", &kubia().yaml(), "INFO reloaded");
    scenario.daemon.wait_for("INFO reloaded", before).unwrap();
    let mut names: Vec<_> = rest.iter().map(|pod| &pod.name).collect();
    names.sort();
    assert_answered_by(&ask(&scenario.lab, target, 60), &names);
}

/// A client that stays on its socket: what it is answered to one datagram.
struct Talk(UdpSocket);

impl Talk {
    /// In the client's namespace.
    fn open(scenario: &Scenario, target: SocketAddr) -> Self {
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = scenario.lab.client.enter(|| UdpSocket::bind(any).unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket.connect(target).unwrap();
        Self(socket)
    }

    /// The name of the pod that answers, or the error.
    fn ask(&self) -> Result<String, std::io::ErrorKind> {
        let mut buffer = [0; 100];
        let exchange = || {
            self.0.send(b"hello")?;
            self.0.recv(&mut buffer)
        };
        let length = { exchange }().map_err(|error| error.kind())?;
        let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
        Ok(answer.trim_end_matches(" hello").to_owned())
    }
}

fn rule_26_udp_leaves_an_endpoint_that_is_gone_at_once(mode: &str) {
    let scenario = Scenario::new(mode);
    let talks = scenario.targets(ECHO).map(|target| Talk::open(&scenario, target));
    let all: Vec<&Pod> = scenario.lab.pods.iter().collect();
    let without = |names: &[String]| {
        let rest = all.iter().filter(|pod| !names.contains(&pod.name));
        rest.copied().collect::<Vec<_>>()
    };
    let answers = || talks.each_ref().map(|talk| talk.ask().unwrap());
    let first = answers();
    assert_eq!(answers(), first, "a socket stays with its pod");

    // Others gone, those in use not: nothing moves.
    scenario.set_pods(all.iter().copied().filter(|pod| first.contains(&pod.name)));
    assert_eq!(answers(), first);
    scenario.set_pods(all.iter().copied());
    assert_eq!(answers(), first);

    // One family after the other loses its pod, and maybe both share it.
    let left = without(&first);
    scenario.set_pods(left.iter().copied());
    let second = answers();
    for name in &second {
        assert!(left.iter().any(|pod| pod.name == *name), "{second:?} after {first:?}");
    }

    // To zero endpoints, and back.
    scenario.set_pods([]);
    for talk in &talks {
        assert!(talk.ask().is_err(), "an endpoint that is gone answers");
    }
    scenario.set_pods(all.iter().copied());
    for talk in &talks {
        // What the kernel keeps of a rejection comes with the next call.
        let _ = talk.ask();
        talk.ask().unwrap();
    }

    // And the whole Service.
    let before = scenario.daemon.log().len();
    fs::remove_file(scenario.lab.directory().join("manifests/kubia.yaml")).unwrap();
    scenario.daemon.wait_for("Service default/kubia: gone", before).unwrap();
    for talk in &talks {
        assert!(talk.ask().is_err(), "a Service that is gone answers");
    }
    let flows = scenario.lab.get(&["flows"]).unwrap();
    assert!(!flows.contains("UDP"), "{flows}");
}

/// Clients that send without a pause and endpoints that answer, at the moment in which their flows are removed.
fn rule_26_packets_on_their_way_restore_nothing(mode: &str) {
    let scenario = Scenario::new(mode);
    let talks: Vec<Talk> = (0..20)
        .flat_map(|_| scenario.targets(ECHO).map(|target| Talk::open(&scenario, target)))
        .collect();
    for talk in &talks {
        talk.ask().unwrap();
        talk.0.set_nonblocking(true).unwrap();
    }
    let [gone, rest @ ..] = scenario.lab.pods.as_slice() else {
        panic!("the lab has pods")
    };
    let changing = AtomicBool::new(true);
    let flows = thread::scope(|scope| {
        scope.spawn(|| {
            while changing.load(Ordering::Relaxed) {
                for talk in &talks {
                    // Neither a full buffer nor an answer matters.
                    let _ = talk.0.send(b"hello");
                    let _ = talk.0.recv(&mut [0; 100]);
                }
            }
        });
        scenario.set_pods(rest);
        // Once more: whatever was on its way has arrived.
        scenario.set_pods(rest);
        let flows = scenario.lab.get(&["flows", "-o", "json"]);
        changing.store(false, Ordering::Relaxed);
        flows.unwrap()
    });
    assert!(flows.contains(&rest[0].addresses[0].to_string()), "{flows}");
    for address in gone.addresses {
        assert!(
            !flows.contains(&format!("{address}:")) && !flows.contains(&format!("[{address}]:")),
            "{flows}"
        );
    }
}

fn rule_27_tcp_outlives_its_endpoint_and_its_service(mode: &str) {
    let scenario = Scenario::new(mode);
    let targets = scenario.targets(HTTP);
    scenario.lab.client.enter(|| {
        client::block_on(async {
            let mut connections = Vec::new();
            for target in targets {
                let mut connection = Connection::open(target).await.unwrap();
                let pod = connection.get("/").await.unwrap();
                connections.push((connection, pod));
            }
            scenario.set_pods([]);
            for (connection, pod) in &mut connections {
                assert_eq!(connection.get("/").await.unwrap(), *pod);
            }
            let before = scenario.daemon.log().len();
            fs::remove_file(scenario.lab.directory().join("manifests/kubia.yaml")).unwrap();
            scenario.daemon.wait_for("Service default/kubia: gone", before).unwrap();
            for (connection, pod) in &mut connections {
                assert_eq!(connection.get("/").await.unwrap(), *pod);
            }
        });
    });
}

/// Also when nothing has been noticed: a file system that inotify does not see, say.
fn a_hangup_reads_the_manifests_again(mode: &str) {
    let scenario = Scenario::new(mode);
    let before = scenario.daemon.log().len();
    scenario.daemon.signal(Signal::SIGHUP).unwrap();
    scenario.daemon.wait_for("INFO reloaded", before).unwrap();
    for target in scenario.targets(HTTP) {
        assert_answered_by(&ask(&scenario.lab, target, 60), &scenario.names());
    }
}
