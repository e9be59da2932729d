//! `svcproxy --cleanup` removes every trace.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use svcproxy_tests::{client, lab::Lab};

use crate::{
    over_xdp_and_tc,
    scenario::{HTTP, Scenario, ask},
};

over_xdp_and_tc!(cleanup_removes_every_trace);

fn cleanup_removes_every_trace(mode: &str) {
    let scenario = Scenario::new(mode);
    let [target, _] = scenario.targets(HTTP);
    let Scenario { daemon, lab, .. } = scenario;
    let map = map_id(&lab);
    assert!(daemon.stop().unwrap().success());
    assert!(
        ask(&lab, target, 10).failures.is_empty(),
        "the datapath stays when the daemon ends"
    );

    lab.cleanup().unwrap();
    assert_eq!(entries(&lab.pin_dir()), 0, "pins");
    assert_eq!(entries(&lab.state_dir()), 0, "state");
    let answer = lab.client.enter(|| client::block_on(client::get(target, "/")));
    assert!(answer.is_err(), "nothing forwards any more");
    // A link holds its program, a program its maps: with the map everything is gone.
    let deadline = Instant::now() + Duration::from_secs(5);
    while lab.node.run("bpftool", &["map", "show", "id", &map]).is_ok() {
        assert!(Instant::now() < deadline, "the kernel still holds the maps");
        thread::sleep(Duration::from_millis(50));
    }

    lab.cleanup().expect("cleaning up twice is no error");
}

/// The kernel's number of a map.
fn map_id(lab: &Lab) -> String {
    let path = lab.pin_dir().join("services_v4");
    let path = path.to_string_lossy();
    let json = lab
        .node
        .run("bpftool", &["--json", "map", "show", "pinned", &path])
        .unwrap();
    let map: serde_json::Value = serde_json::from_str(&json).unwrap();
    map["id"].to_string()
}

fn entries(directory: &Path) -> usize {
    fs::read_dir(directory).map(|entries| entries.count()).unwrap_or(0)
}
