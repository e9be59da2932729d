//! Many connections: none may fail, and they must spread evenly.

use svcproxy_tests::client::{self, Tally};

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

/// All `total` requests were answered, by all the pods, about as often by each.
#[track_caller]
fn assert_even(case: &str, tally: &Tally, total: u32, pods: &[String]) {
    println!("{case}: {tally}; {:.1} % from even", tally.unevenness() * 100.0);
    assert_answered_by(tally, pods);
    assert_eq!(tally.total(), total);
    assert!(tally.unevenness() < TOLERANCE, "{tally}");
}

fn ten_thousand_sequential_requests(mode: &str) {
    let scenario = Scenario::alone(mode);
    for target in scenario.targets(HTTP) {
        let tally = ask(&scenario.lab, target, 10_000);
        assert_even(&format!("{mode} {target}"), &tally, 10_000, &scenario.names());
    }
}

fn concurrent_requests(mode: &str) {
    let scenario = Scenario::alone(mode);
    for target in scenario.targets(HTTP) {
        let tally = scenario
            .lab
            .client
            .enter(|| client::block_on(client::concurrent(target, 32, 300)));
        assert_even(&format!("{mode} {target}"), &tally, 32 * 300, &scenario.names());
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
