//! The manifests that people copy, as they stand in `manifests/examples`.

use std::net::{IpAddr, SocketAddr};

use svcproxy_tests::{examples, lab::Lab, topology::Topology};

use crate::{
    over_xdp_and_tc,
    scenario::{ask, assert_answered_by, topology},
};

/// Enough that a pod left out by chance is out of the question (3 × (2/3)^90 < 10^-15).
const REQUESTS: u32 = 90;

over_xdp_and_tc!(every_example_works, every_example_works_over_ipv6);

fn every_example_works(mode: &str) {
    let files = examples::files().unwrap();
    assert_eq!(files.len(), 5);
    check(mode, &files, IpAddr::is_ipv4);
}

/// The examples, asking for both families where they leave it open; the hand-written slice gets one of IPv6.
fn every_example_works_over_ipv6(mode: &str) {
    let dual = "spec:\n  ipFamilyPolicy: PreferDualStack\n";
    let mut files = examples::files().unwrap();
    for (_, text) in &mut files {
        if !text.contains("ipFamilyPolicy") {
            let (before, after) = text.split_once("spec:\n").unwrap();
            *text = format!("{before}{dual}{after}");
        }
    }
    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: external-2\n  labels:\n    \
                 kubernetes.io/service-name: external\naddressType: IPv6\nports:\n  - name: http\n    port: 8080\n\
                 endpoints:\n  - addresses: [\"fd00:10:244::51\"]\n  - addresses: [\"fd00:10:244::52\"]\n";
    files.push(("external-v6.yaml".to_owned(), slice.to_owned()));
    check(mode, &files, IpAddr::is_ipv6);
}

fn check(mode: &str, files: &[(String, String)], family: fn(&IpAddr) -> bool) {
    let lab = Lab::new(&Topology {
        pods: examples::pods(),
        ..topology(mode)
    })
    .unwrap();
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    lab.set_manifests(&files).unwrap();
    let _daemon = lab.start_daemon(mode).unwrap();
    let target = |service: &str, port| {
        let ips = lab.cluster_ips(&format!("default/{service}")).unwrap();
        let ip = ips.iter().copied().find(family);
        SocketAddr::new(ip.unwrap_or_else(|| panic!("{service} has only {ips:?}")), port)
    };

    let table: [(&str, u16, &[&str]); 6] = [
        ("kubia", 80, &["kubia-1", "kubia-2", "kubia-3"]),
        ("kubia-ports", 80, &["kubia-ports-1", "kubia-ports-2", "kubia-ports-3"]),
        ("kubia-ports", 443, &["kubia-ports-1", "kubia-ports-2", "kubia-ports-3"]),
        ("kubia-named-ports", 80, &["kubia-named-ports-1", "kubia-named-ports-2"]),
        (
            "kubia-named-ports",
            443,
            &["kubia-named-ports-1", "kubia-named-ports-2"],
        ),
        ("external", 80, &["external-1", "external-2"]),
    ];
    for (service, port, pods) in table {
        assert_answered_by(&ask(&lab, target(service, port), REQUESTS), pods);
    }
    let affine = ask(&lab, target("kubia-affinity", 80), REQUESTS);
    assert!(
        affine.failures.is_empty() && affine.answers.len() == 1,
        "one client, one pod: {affine}"
    );
}
