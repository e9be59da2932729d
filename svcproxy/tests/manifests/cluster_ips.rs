//! Which address a Service gets, and that it keeps it.

use std::{collections::BTreeSet, net::IpAddr};

use svcproxy::{input::Input, model::Options, state::State};

use crate::given::{NOW, lines, model, options, ranges, read, read_with, service};

fn kubia(name: &str, spec: &str) -> String {
    format!("{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{{spec}ports: [{{port: 80}}]}}}}")
}

fn stream(documents: &[String]) -> String {
    documents.join("\n---\n")
}

fn ips(input: &Input, name: &str) -> Vec<String> {
    service(model(input), name)
        .cluster_ips
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// The primary address of every Service.
fn primaries(input: &Input) -> Vec<(String, IpAddr)> {
    model(input)
        .services
        .iter()
        .map(|s| (s.name.to_string(), s.cluster_ips[0]))
        .collect()
}

#[test]
fn families_by_policy_and_range() {
    const V4: &[&str] = &["10.96.0.0/12"];
    const V6: &[&str] = &["fd00:10:96::/112"];
    const BOTH: &[&str] = &["10.96.0.0/12", "fd00:10:96::/112"];
    const SIX_FIRST: &[&str] = &["fd00:10:96::/112", "10.96.0.0/12"];
    for (spec, of, expected) in [
        ("", V4, "4"),
        ("", V6, "6"),
        ("", BOTH, "4"),
        ("", SIX_FIRST, "6"),
        ("ipFamilies: [IPv6], ", BOTH, "6"),
        ("ipFamilyPolicy: SingleStack, ", BOTH, "4"),
        ("ipFamilyPolicy: PreferDualStack, ", BOTH, "46"),
        ("ipFamilyPolicy: PreferDualStack, ", V4, "4"),
        ("ipFamilyPolicy: PreferDualStack, ", SIX_FIRST, "64"),
        (
            "ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv6, IPv4], ",
            BOTH,
            "64",
        ),
        ("ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6], ", BOTH, "64"),
        ("ipFamilyPolicy: RequireDualStack, ", V4, "!IPv6"),
        ("ipFamilies: [IPv6], ", V4, "!IPv6"),
        ("clusterIP: 'fd00::5', ", V4, "6"),
        ("clusterIP: 'fd00::5', ipFamilyPolicy: PreferDualStack, ", V4, "64"),
        (
            "clusterIPs: [10.0.0.5, 'fd00::5'], ipFamilyPolicy: RequireDualStack, ",
            V4,
            "46",
        ),
        ("", &[], "!IPv4"),
        ("clusterIP: 10.0.0.5, ", &[], "4"),
        ("", &["10.96.0.0/12", "10.0.0.0/16"], "!both IPv4"),
    ] {
        let input = read_with(
            &kubia("kubia", spec),
            &Options {
                ranges: ranges(of),
                now: NOW,
                ..Options::default()
            },
            &State::default(),
        );
        match expected.strip_prefix('!') {
            Some(reason) => {
                assert!(
                    input.model.is_none() && lines(&input).contains(reason),
                    "{spec} {of:?}: {}",
                    lines(&input)
                );
                assert!(
                    lines(&input).contains("--service-cluster-ip-range"),
                    "{}",
                    lines(&input)
                );
            }
            None => {
                let cluster_ips = &service(model(&input), "kubia").cluster_ips;
                let found: String = cluster_ips
                    .iter()
                    .map(|ip| if ip.is_ipv4() { '4' } else { '6' })
                    .collect();
                assert_eq!(found, expected, "{spec} {of:?}");
            }
        }
    }
}

#[test]
fn an_address_stays_whatever_the_order_and_who_else_comes() {
    let few: Vec<String> = (0..20).map(|n| kubia(&format!("s{n}"), "")).collect();
    let mut many: Vec<String> = (0..60).map(|n| kubia(&format!("s{n}"), "")).collect();
    many.reverse();
    // A range so small that Services compete for their first choice.
    let options = Options {
        ranges: ranges(&["10.96.0.0/26"]),
        now: NOW,
        ..Options::default()
    };
    let before = read_with(&stream(&few), &options, &State::default());
    let mut reordered = few.clone();
    reordered.reverse();
    assert_eq!(
        before.model,
        read_with(&stream(&reordered), &options, &State::default()).model
    );
    let after = read_with(&stream(&many), &options, &before.state);
    let after_few: Vec<_> = primaries(&after)
        .into_iter()
        .filter(|s| primaries(&before).contains(s))
        .collect();
    assert_eq!(after_few, primaries(&before));
    let distinct: BTreeSet<IpAddr> = primaries(&after).into_iter().map(|(_, ip)| ip).collect();
    assert_eq!(distinct.len(), 60);
}

#[test]
fn without_a_state_the_name_decides() {
    let alone = read(&kubia("kubia", ""));
    let among = read(&stream(&[kubia("a", ""), kubia("kubia", ""), kubia("z", "")]));
    assert_eq!(ips(&alone, "kubia"), ips(&among, "kubia"));
    assert_eq!(ips(&alone, "kubia"), ["10.96.175.78"], "the same in every release");
}

#[test]
fn given_addresses_are_kept_and_never_handed_out() {
    let assigned = ips(&read(&kubia("kubia", "")), "kubia").remove(0);
    let claim = kubia("zz", &format!("clusterIP: {assigned}, "));
    let first = read(&stream(&[kubia("kubia", ""), claim.clone()]));
    assert_eq!(ips(&first, "zz"), [assigned.as_str()]);
    assert_ne!(ips(&first, "kubia"), [assigned.as_str()]);

    let state = read(&kubia("kubia", "")).state;
    let moved = read_with(&stream(&[kubia("kubia", ""), claim]), &options(), &state);
    assert_ne!(ips(&moved, "kubia"), [assigned.as_str()]);
    assert!(
        lines(&moved).contains(&format!("its cluster IP changes from {assigned} to ")),
        "{}",
        lines(&moved)
    );
    assert!(lines(&moved).contains("another Service claims it"), "{}", lines(&moved));
}

#[test]
fn an_address_outside_a_new_range_is_given_up() {
    let state = read(&kubia("kubia", "")).state;
    let narrow = Options {
        ranges: ranges(&["10.97.0.0/16"]),
        now: NOW,
        ..Options::default()
    };
    let moved = read_with(&kubia("kubia", ""), &narrow, &state);
    assert!(ips(&moved, "kubia")[0].starts_with("10.97."));
    assert!(
        lines(&moved).contains("--service-cluster-ip-range does not hold it"),
        "{}",
        lines(&moved)
    );
}

#[test]
fn the_address_of_a_deleted_service_rests_for_one_reload() {
    let options = Options {
        ranges: ranges(&["10.96.0.0/30"]),
        now: NOW,
        ..Options::default()
    };
    let before = read_with(&stream(&[kubia("a", ""), kubia("b", "")]), &options, &State::default());
    let replaced = read_with(&stream(&[kubia("a", ""), kubia("c", "")]), &options, &before.state);
    assert!(replaced.model.is_none() && lines(&replaced).contains("no address is free in 10.96.0.0/30"));
    assert_eq!(replaced.state, before.state, "an input in error changes nothing");
    let deleted = read_with(&kubia("a", ""), &options, &before.state);
    assert_eq!(deleted.state.services.len(), 1, "the state does not grow");
    let later = read_with(&stream(&[kubia("a", ""), kubia("c", "")]), &options, &deleted.state);
    assert_eq!(ips(&later, "c"), ips(&before, "b"));
}

#[test]
fn network_and_broadcast_are_never_assigned_and_the_lower_part_last() {
    for (range, count) in [
        ("10.96.0.0/30", 2),
        ("10.96.0.0/29", 6),
        ("fd00::/126", 3),
        ("10.96.0.0/32", 0),
        ("fd00::1/128", 0),
    ] {
        let options = Options {
            ranges: ranges(&[range]),
            now: NOW,
            ..Options::default()
        };
        let services: Vec<String> = (0..count).map(|n| kubia(&format!("s{n}"), "")).collect();
        let full = read_with(&stream(&services), &options, &State::default());
        let network = options.ranges[0];
        for (_, ip) in primaries(&full) {
            assert!(network.contains(&ip) && ip != network.network(), "{ip} of {range}");
            assert!(ip.is_ipv6() || ip != network.broadcast(), "{ip} of {range}");
        }
        let more = read_with(
            &stream(&[services, vec![kubia("one-more", "")]].concat()),
            &options,
            &State::default(),
        );
        assert_eq!(more.errors().count(), 1, "{range}: {}", lines(&more));
        assert!(lines(&more).contains("--service-cluster-ip-range"), "{}", lines(&more));
    }
    let options = Options {
        ranges: ranges(&["10.96.0.0/24"]),
        now: NOW,
        ..Options::default()
    };
    let services: Vec<String> = (0..238).map(|n| kubia(&format!("s{n}"), "")).collect();
    let upper = read_with(&stream(&services), &options, &State::default());
    assert!(
        primaries(&upper)
            .iter()
            .all(|(_, ip)| *ip > "10.96.0.16".parse::<IpAddr>().unwrap()),
        "16 are left to people"
    );
}

#[test]
fn created_is_stated_or_first_seen() {
    let stated = "{apiVersion: v1, kind: Service, metadata: {name: old, creationTimestamp: '2020-01-01T00:00:00Z'}, spec: {ports: [{port: 80}]}}";
    let first = read(&stream(&[kubia("new", ""), stated.to_owned()]));
    let created = |input: &Input, name: &str| input.state.services[&format!("default/{name}")].created;
    assert_eq!((created(&first, "new"), created(&first, "old")), (NOW, 1_577_836_800));
    let later = read_with(
        &kubia("new", ""),
        &Options {
            now: NOW + 60,
            ..options()
        },
        &first.state,
    );
    assert_eq!(created(&later, "new"), NOW);
}
