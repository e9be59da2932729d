//! Many connections: none may fail, and they must spread evenly.

use svcproxy_tests::{client, topology::Topology};

use crate::{
    over_xdp_and_tc,
    scenario::{HTTP, HTTPS, Scenario, ask, assert_answered_by, kubia, topology},
};

/// How far a pod's share may be from even.
const TOLERANCE: f64 = 0.15;

over_xdp_and_tc!(
    ten_thousand_sequential_requests,
    concurrent_requests,
    affinity_holds_across_ports_and_connections
);

fn ten_thousand_sequential_requests(mode: &str) {
    let scenario = Scenario::with(
        mode,
        &Topology {
            alone: true,
            ..topology(mode)
        },
        &kubia(),
    );
    for target in scenario.targets(HTTP) {
        let tally = ask(&scenario.lab, target, 10_000);
        println!(
            "{mode} {target}: {tally}; {:.1} % from even",
            tally.unevenness() * 100.0
        );
        assert_answered_by(&tally, &scenario.names());
        assert_eq!(tally.total(), 10_000);
        assert!(tally.unevenness() < TOLERANCE, "{tally}");
    }
}

fn concurrent_requests(mode: &str) {
    let scenario = Scenario::with(
        mode,
        &Topology {
            alone: true,
            ..topology(mode)
        },
        &kubia(),
    );
    for target in scenario.targets(HTTP) {
        let tally = scenario
            .lab
            .client
            .enter(|| client::block_on(client::concurrent(target, 32, 300)));
        println!(
            "{mode} {target}: {tally}; {:.1} % from even",
            tally.unevenness() * 100.0
        );
        assert_answered_by(&tally, &scenario.names());
        assert_eq!(tally.total(), 32 * 300);
        assert!(tally.unevenness() < TOLERANCE, "{tally}");
    }
}

fn affinity_holds_across_ports_and_connections(mode: &str) {
    let scenario = Scenario::with(mode, &topology(mode), &kubia().affinity());
    for (http, https) in scenario.targets(HTTP).into_iter().zip(scenario.targets(HTTPS)) {
        let tallies = [http, https].map(|target| ask(&scenario.lab, target, 50));
        let pods = tallies.each_ref().map(|tally| tally.answers.keys().next().cloned());
        assert!(
            tallies
                .iter()
                .all(|tally| tally.failures.is_empty() && tally.answers.len() == 1),
            "{tallies:?}"
        );
        assert_eq!(pods[0], pods[1], "one client, one pod, whatever the port");
    }
}
