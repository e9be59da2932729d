//! `svcproxy --cleanup` removes every trace.

use std::fs;

use svcproxy_tests::client;

use crate::{
    over_xdp_and_tc,
    scenario::{HTTP, Scenario},
};

over_xdp_and_tc!(cleanup_removes_every_trace);

fn cleanup_removes_every_trace(mode: &str) {
    let scenario = Scenario::new(mode);
    let [target, _] = scenario.targets(HTTP);
    let Scenario { daemon, lab, .. } = scenario;
    assert!(attached(&lab), "bpftool should show the programs on eth0");
    assert!(daemon.stop().unwrap().success());
    assert!(attached(&lab), "the datapath stays when the daemon ends");

    lab.cleanup().unwrap();
    assert!(
        !attached(&lab),
        "{}",
        lab.node.run("bpftool", &["net", "show"]).unwrap()
    );
    let listing = |path: &std::path::Path| fs::read_dir(path).map(|entries| entries.count()).unwrap_or(0);
    assert_eq!(listing(&lab.pin_dir()), 0, "pins");
    assert_eq!(listing(&lab.state_dir()), 0, "state");
    assert!(
        lab.client.enter(|| client::block_on(client::get(target, "/"))).is_err(),
        "nothing forwards any more"
    );

    lab.cleanup().expect("cleaning up twice is no error");
}

/// Whether a program of svcproxy is attached in the node.
fn attached(lab: &svcproxy_tests::lab::Lab) -> bool {
    lab.node.run("bpftool", &["net", "show"]).unwrap().contains("eth0")
}
