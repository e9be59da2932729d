//! A node's network out of lines as one would type them.

use std::net::IpAddr;

use ipnet::IpNet;
use svcproxy::network::{Address, Link, Route, Snapshot};

/// The network of these lines: `eth0`, `cni0 bridge`, `veth1 veth master cni0` for interfaces (after `lo`, which is
/// always there), `192.0.2.1/24 dev eth0` for addresses, `10.0.0.0/8 via 192.0.2.2 dev eth0 metric 100` for routes after
/// the word `route`. As in the kernel, an address brings the route to its network.
pub(crate) fn network(text: &str) -> Snapshot {
    let mut network = Snapshot::default();
    network.links.push(Link {
        index: 1,
        name: "lo".into(),
        loopback: true,
        ..Link::default()
    });
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |key: &str| words.iter().skip_while(|word| **word != key).nth(1).copied();
        let index = |name: &str| {
            let found = network.links.iter().find(|link| link.name == name);
            found.unwrap_or_else(|| panic!("no {name}")).index
        };
        if words[0] == "route" {
            network.routes.push(Route {
                destination: match words[1] {
                    "default" => "0.0.0.0/0".parse().unwrap(),
                    "default6" => "::/0".parse().unwrap(),
                    network => network.parse().unwrap(),
                },
                interface: index(after("dev").unwrap()),
                gateway: after("via").map(|ip| ip.parse().unwrap()),
                metric: after("metric").map_or(0, |metric| metric.parse().unwrap()),
            });
        } else if let Ok(own) = words[0].parse::<IpNet>() {
            let (interface, host) = (index(after("dev").unwrap()), own.prefix_len() == own.max_prefix_len());
            network.addresses.push(Address {
                interface,
                ip: own.addr(),
                network: own.trunc(),
            });
            // The kernel has a route to a single address in the main table for IPv6 only.
            if !host || own.addr().is_ipv6() {
                network.routes.push(Route {
                    destination: own.trunc(),
                    interface,
                    gateway: None,
                    metric: 0,
                });
            }
        } else {
            let kind = words.get(1).filter(|word| **word != "master");
            network.links.push(Link {
                index: network.links.len() as u32 + 1,
                name: words[0].into(),
                kind: kind.map(|kind| (*kind).into()),
                ethernet: true,
                master: after("master").map(index),
                ..Link::default()
            });
        }
    }
    network
}

/// Addresses separated by spaces.
pub(crate) fn ips(text: &str) -> Vec<IpAddr> {
    text.split_whitespace().map(|ip| ip.parse().unwrap()).collect()
}

/// Networks separated by spaces.
pub(crate) fn nets(text: &str) -> Vec<IpNet> {
    text.split_whitespace().map(|net| net.parse().unwrap()).collect()
}
