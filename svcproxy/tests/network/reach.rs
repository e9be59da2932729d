//! Rule 27, beyond: which endpoints are out of reach, and why.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use svcproxy::{
    input,
    manifest::{self, Source},
    model::Options,
    network::{Evidence, Neighbour, Neighbours, Reach, Snapshot},
    state::State,
};

use crate::given::{ips, network};

/// A node with an uplink, a pod behind a veth of its own, pods behind a bridge and pods behind another node.
const NODE: &str = "
    eth0
    veth1 veth
    cni0 bridge
    192.0.2.1/24 dev eth0
    10.244.2.1/24 dev cni0
    route default via 192.0.2.9 dev eth0
    route 10.244.0.7/32 dev veth1
    route 10.244.1.0/24 via 192.0.2.2 dev eth0";

/// A moment: the network, and what else there is to know.
#[derive(Clone, Default)]
struct Moment {
    network: Snapshot,
    neighbours: Vec<(u32, IpAddr, Neighbour)>,
    led_elsewhere: BTreeSet<IpAddr>,
    endpoints: BTreeSet<IpAddr>,
    ended: BTreeMap<IpAddr, String>,
}

impl Moment {
    fn of(text: &str) -> Self {
        Self {
            network: network(text),
            ..Self::default()
        }
    }

    /// Without an interface of this name and its routes, or without the routes to this destination.
    fn without(what: &str) -> Self {
        let mut moment = Self::of(NODE);
        let links = &mut moment.network.links;
        let gone = links.iter().find(|link| link.name == what).map(|link| link.index);
        links.retain(|link| Some(link.index) != gone);
        let routes = &mut moment.network.routes;
        routes.retain(|route| Some(route.interface) != gone && route.destination.to_string() != what);
        moment
    }

    /// What an address is told by its interface's neighbour table.
    fn neighbour(mut self, interface: &str, ip: &str, neighbour: Neighbour) -> Self {
        let link = self.network.links.iter().find(|link| link.name == interface).unwrap();
        self.neighbours.push((link.index, ip.parse().unwrap(), neighbour));
        self
    }

    fn endpoints(mut self, addresses: &str) -> Self {
        self.endpoints = ips(addresses).into_iter().collect();
        self
    }

    fn ended(mut self, address: &str, pod: &str) -> Self {
        self.ended.insert(address.parse().unwrap(), pod.to_owned());
        self
    }

    fn led_elsewhere(mut self, addresses: &str) -> Self {
        self.led_elsewhere = ips(addresses).into_iter().collect();
        self
    }
}

/// Of one endpoint, after each of these moments: at which second, what there is to know, why it is out of reach (nothing
/// when it is not).
#[track_caller]
fn assert_course(endpoint: &str, course: impl IntoIterator<Item = (u64, Moment, &'static str)>) {
    let start = Instant::now();
    let mut reach = Reach::default();
    reach.learn(ips(endpoint));
    for (second, moment, expected) in course {
        let neighbours: Neighbours = moment.neighbours.iter().copied().collect();
        reach.update(&Evidence {
            network: &moment.network,
            neighbours: &neighbours,
            led_elsewhere: &moment.led_elsewhere,
            endpoints: &moment.endpoints,
            ended: &moment.ended,
            now: start + Duration::from_secs(second),
        });
        let found: Vec<String> = reach.out().map(|(ip, why)| format!("{ip}: {why}")).collect();
        let expected: Vec<String> = match expected {
            "" => Vec::new(),
            why => vec![format!("{endpoint}: {why}")],
        };
        assert_eq!(found, expected, "after {second} s");
    }
}

#[test]
fn an_interface_that_is_gone_is_at_once() {
    assert_course(
        "10.244.0.7",
        [
            (0, Moment::of(NODE), ""),
            (1, Moment::without("veth1"), "its interface veth1 is gone"),
            (60, Moment::without("veth1"), "its interface veth1 is gone"),
            (61, Moment::of(NODE), ""),
        ],
    );
}

#[test]
fn a_route_that_is_gone_must_stay_so() {
    let lost = "its route 10.244.1.0/24 dev eth0 is gone";
    assert_course(
        "10.244.1.5",
        [
            (0, Moment::of(NODE), ""),
            (1, Moment::without("10.244.1.0/24"), ""),
            (4, Moment::of(NODE), ""),
            (6, Moment::without("10.244.1.0/24"), ""),
            (9, Moment::without("10.244.1.0/24"), ""),
            (10, Moment::without("10.244.1.0/24"), lost),
            (11, Moment::of(NODE), ""),
        ],
    );
}

#[test]
fn another_route_will_do() {
    let wider = format!("{NODE}\nroute 10.244.0.0/16 via 192.0.2.3 dev eth0")
        .replace("route 10.244.1.0/24", "route 10.9.9.0/24");
    assert_course(
        "10.244.1.5",
        [
            (0, Moment::of(NODE), ""),
            (1, Moment::of(&wider), ""),
            (60, Moment::of(&wider), ""),
        ],
    );
}

#[test]
fn what_only_a_default_route_ever_led_to_is_not_out_of_reach() {
    assert_course("198.51.100.7", [(0, Moment::of(NODE), ""), (60, Moment::of(NODE), "")]);
}

#[test]
fn without_any_route_an_address_is_out_of_reach_unless_a_rule_leads_there() {
    let lonely = || Moment::without("0.0.0.0/0");
    assert_course(
        "198.51.100.7",
        [
            (0, lonely(), ""),
            (5, lonely(), "no route leads to it"),
            (6, lonely().led_elsewhere("198.51.100.7"), ""),
            (60, lonely().led_elsewhere("198.51.100.7"), ""),
        ],
    );
    assert_course("192.0.2.1", [(0, lonely(), ""), (60, lonely(), "")]);
}

#[test]
fn a_neighbour_must_be_silent_twice() {
    use Neighbour::{Answers, Silent, Stale};

    let at = |neighbour| Moment::of(NODE).neighbour("cni0", "10.244.2.3", neighbour);
    let silent = "it does not answer on the link of cni0";
    assert_course(
        "10.244.2.3",
        [
            (0, Moment::of(NODE), ""),
            (5, at(Silent), ""),
            (8, at(Silent), ""),
            (9, at(Stale), ""),
            (10, at(Silent), ""),
            // The kernel has forgotten it: nothing new.
            (15, Moment::of(NODE), ""),
            (20, at(Silent), silent),
            // Nobody sends there any more, so nobody asks.
            (60, Moment::of(NODE), silent),
            (65, at(Silent), silent),
            (70, at(Answers), ""),
        ],
    );
}

#[test]
fn the_silence_of_a_router_is_not_the_endpoints() {
    let at = |second| {
        (
            second,
            Moment::of(NODE).neighbour("eth0", "192.0.2.2", Neighbour::Silent),
            "",
        )
    };
    assert_course("10.244.1.5", [at(0), at(60)]);
}

#[test]
fn endpoints_on_a_link_that_have_not_answered_lately_are_asked() {
    let (own, on_link) = ("192.0.2.1", "10.244.2.3");
    let mut reach = Reach::default();
    reach.learn(ips(&format!("{own} {on_link} 10.244.2.4 10.244.2.5 10.244.1.5")));
    let moment = Moment::of(NODE)
        .neighbour("eth0", own, Neighbour::Stale)
        .neighbour("cni0", on_link, Neighbour::Stale)
        .neighbour("cni0", "10.244.2.4", Neighbour::Answers)
        .neighbour("cni0", "10.244.2.6", Neighbour::Stale)
        .neighbour("eth0", "10.244.1.5", Neighbour::Stale);
    let (index, ..) = moment.neighbours[1];
    let neighbours: Neighbours = moment.neighbours.iter().copied().collect();
    assert_eq!(
        reach.stale(&moment.network, &neighbours),
        [(index, on_link.parse::<IpAddr>().unwrap())]
    );
}

#[test]
fn a_pod_that_has_ended_stays_so_until_its_address_serves_again() {
    let ended = "its pod kubia-1 has ended";
    assert_course(
        "10.244.0.7",
        [
            (0, Moment::of(NODE).endpoints("10.244.0.7"), ""),
            (1, Moment::of(NODE).ended("10.244.0.7", "kubia-1"), ended),
            (2, Moment::of(NODE), ended),
            (3, Moment::of(NODE).endpoints("10.244.0.7"), ""),
            // An EndpointSlice that still has it counts for more.
            (
                4,
                Moment::of(NODE).endpoints("10.244.0.7").ended("10.244.0.7", "kubia-1"),
                "",
            ),
        ],
    );
}

#[test]
fn removed_from_its_service_an_endpoint_is_within_reach_and_after_a_day_forgotten() {
    let day = 86_400;
    assert_course(
        "10.244.0.7",
        [
            (0, Moment::of(NODE).endpoints("10.244.0.7"), ""),
            (1, Moment::of(NODE), ""),
            (day, Moment::without("veth1"), "its interface veth1 is gone"),
            (day + 1, Moment::without("veth1"), ""),
        ],
    );
}

#[test]
fn a_pod_that_has_ended_leaves_an_address_that_no_other_pod_has() {
    let pod = |name: &str, spec: &str, status: &str| {
        format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{{spec}}}, status: {{{status}}}}}")
    };
    let text = [
        pod("runs", "", "phase: Running, podIP: 10.244.0.11"),
        pod(
            "failed",
            "",
            "phase: Failed, podIPs: [{ip: 10.244.0.12}, {ip: 'fd00::12'}]",
        ),
        pod("succeeded", "", "phase: Succeeded, podIP: 10.244.0.13"),
        pod("replaced", "", "phase: Failed, podIP: 10.244.0.11"),
        pod("on-the-host", "hostNetwork: true", "phase: Failed, podIP: 192.0.2.1"),
        pod("nowhere", "", "phase: Failed"),
    ];
    let source = Source {
        name: "f.yaml".into(),
        text: text.join("\n---\n"),
    };
    let input = input::join(manifest::parse(&[source]), &Options::default(), &State::default());
    let ended: Vec<String> = input
        .model
        .unwrap()
        .ended
        .iter()
        .map(|(ip, pod)| format!("{ip} {pod}"))
        .collect();
    assert_eq!(
        ended,
        ["10.244.0.12 failed", "10.244.0.13 succeeded", "fd00::12 failed"]
    );
}
