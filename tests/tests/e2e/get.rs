//! What the datapath holds, asked from the command line while the daemon runs and after it has ended.

use crate::scenario::{Scenario, kubia, topology};

const MODE: &str = "tc";

#[test]
fn get_answers_with_and_without_a_daemon() {
    let scenario = Scenario::with(MODE, &topology(MODE), &kubia().affinity());
    scenario.visit();
    let Scenario { daemon, lab, ips } = scenario;
    let check = || {
        let services = lab.get(&["services"]).unwrap();
        let header: Vec<_> = services.lines().next().unwrap().split_whitespace().collect();
        for column in ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"] {
            assert!(header.contains(&column), "{services}");
        }
        assert!(
            services.contains("kubia") && services.contains(&ips[0].to_string()),
            "{services}"
        );
        let endpoints = lab.get(&["endpoints", "-o", "wide"]).unwrap();
        assert!(
            lab.pods
                .iter()
                .all(|pod| endpoints.contains(&pod.addresses[0].to_string())),
            "{endpoints}"
        );
        let flows = lab.get(&["flows"]).unwrap();
        assert!(flows.contains("10.0.0.2") && flows.contains("fd00:a::2"), "{flows}");
        let affinity = lab.get(&["affinity"]).unwrap();
        assert!(
            affinity.contains("10.0.0.2") && affinity.contains("fd00:a::2"),
            "{affinity}"
        );
        for resource in ["services", "endpoints", "flows", "affinity", "reasons"] {
            let json = lab.get(&[resource, "-o", "json"]).unwrap();
            serde_json::from_str::<serde_json::Value>(&json)
                .unwrap_or_else(|error| panic!("{resource}: {error}: {json}"));
            assert!(!lab.get(&[resource, "-o", "yaml"]).unwrap().is_empty());
        }
    };
    check();
    assert!(daemon.stop().unwrap().success());
    check();
}

#[test]
fn bpftool_reads_the_maps_by_field_names() {
    let scenario = Scenario::with(MODE, &topology(MODE), &kubia().affinity());
    scenario.visit();
    let fields = [
        ("services", vec!["address", "port", "protocol", "slot_count"]),
        ("backends", vec!["endpoint", "address", "port"]),
        ("flows", vec!["src", "dst", "src_port", "dst_port", "state"]),
        ("affinity", vec!["client", "endpoint", "last_seen"]),
    ];
    for (map, fields) in fields {
        for family in ["v4", "v6"] {
            let path = scenario.lab.pin_dir().join(format!("{map}_{family}"));
            let dump = scenario
                .lab
                .node
                .run("bpftool", &["map", "dump", "pinned", &path.to_string_lossy()])
                .unwrap();
            for field in &fields {
                assert!(
                    dump.contains(&format!("\"{field}\":")),
                    "{map}_{family} has no {field}: {dump}"
                );
            }
        }
    }
}
