//! Which endpoints a UDP flow may have: those that serve behind the address and port it was sent to.
//!
//! In comes a model, out goes what tells flows of endpoints that are gone ([`Serving::has`]), and whether any endpoint
//! has gone since another model ([`UdpEndpoints::lost`]).

use std::collections::{HashMap, HashSet};

use svcproxy_common::abi::{Protocol, V4Addr, V6Addr};

use super::{contents::MapAddress, networks, ways::entrances};
use crate::model::{Model, NodePolicy};

/// The endpoints of every UDP ServicePort.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UdpEndpoints {
    /// Those of IPv4.
    pub v4: Serving<V4Addr>,
    /// Those of IPv6.
    pub v6: Serving<V6Addr>,
}

/// The endpoints of one family, by the address and port at which clients find them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving<A: MapAddress>(HashMap<(A, u16), HashSet<(A, u16)>>);

impl<A: MapAddress> Default for Serving<A> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl UdpEndpoints {
    /// Those of a model: all that are ready or serve, whatever policies, hints and termination say about new flows. A
    /// flow stays with its endpoint for as long as that answers.
    pub fn of(model: &Model, policy: &NodePolicy) -> Self {
        Self {
            v4: Serving::of(model, policy),
            v6: Serving::of(model, policy),
        }
    }

    /// Whether an endpoint, or a whole ServicePort, of `self` is not in `now` any more.
    pub fn lost(&self, now: &Self) -> bool {
        self.v4.lost(&now.v4) || self.v6.lost(&now.v6)
    }
}

impl<A: MapAddress> Serving<A> {
    fn of(model: &Model, policy: &NodePolicy) -> Self {
        let node = networks::node_port_addresses::<A>(&model.node, policy);
        let mut serving = HashMap::new();
        let ports = model.services.iter().flat_map(|service| {
            let udp = service.ports.iter().filter(|port| port.protocol == Protocol::UDP);
            udp.map(move |port| (service, port))
        });
        for (service, port) in ports {
            if !service.cluster_ips.iter().any(|ip| A::from_ip(*ip).is_some()) {
                continue;
            }
            let alive = port
                .endpoints
                .iter()
                .filter(|endpoint| endpoint.ready || endpoint.serving);
            let endpoints: HashSet<(A, u16)> = alive
                .filter_map(|endpoint| Some((A::from_ip(endpoint.address)?, endpoint.port)))
                .collect();
            let entrances = entrances(service, port, &node).into_iter();
            serving.extend(entrances.map(|entrance| {
                let address = (entrance.key.address, entrance.key.port as u16);
                (address, endpoints.clone())
            }));
        }
        Self(serving)
    }

    /// Whether an endpoint serves behind the address and port of a client's datagrams.
    pub fn has(&self, service: (A, u16), endpoint: (A, u16)) -> bool {
        self.0
            .get(&service)
            .is_some_and(|endpoints| endpoints.contains(&endpoint))
    }

    fn lost(&self, now: &Self) -> bool {
        self.0.iter().any(|(address, before)| match now.0.get(address) {
            Some(endpoints) => !before.is_subset(endpoints),
            None => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::{
        manifest::{Source, parse},
        model::{self, Options},
        state::State,
    };

    const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: dns}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  externalIPs: [192.0.2.53]
  ports:
    - {name: udp, protocol: UDP, port: 53, nodePort: 30053}
    - {name: tcp, protocol: TCP, port: 54, nodePort: 30054}
";

    /// The UDP endpoints of `dns` with these endpoints: address, and conditions as in a slice.
    fn endpoints(conditions: &[(&str, &str)]) -> UdpEndpoints {
        let slice: String = conditions
            .iter()
            .map(|(address, conditions)| format!("\n  - {{addresses: [{address}], conditions: {{{conditions}}}}}"))
            .collect();
        let slice = match conditions {
            [] => " []".to_owned(),
            _ => slice,
        };
        let text = format!(
            "{SERVICE}---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: dns-1
  labels: {{kubernetes.io/service-name: dns}}
addressType: IPv4
ports:
  - {{name: udp, protocol: UDP, port: 5353}}
  - {{name: tcp, protocol: TCP, port: 5354}}
endpoints:{slice}
"
        );
        let loaded = parse(&[Source {
            name: "dns.yaml".to_owned(),
            text,
        }]);
        let options = Options {
            node_ips: vec!["192.0.2.1".parse().unwrap()],
            ..Options::default()
        };
        let built = model::build(&loaded.objects, &options, &State::default());
        let errors = (loaded.diagnostics, built.diagnostics);
        let model = built.model.unwrap_or_else(|| panic!("{errors:?}"));
        UdpEndpoints::of(&model, &NodePolicy::default())
    }

    fn at(address: &str, port: u16) -> (V4Addr, u16) {
        let ip: IpAddr = address.parse().unwrap();
        (V4Addr::from_ip(ip).unwrap(), port)
    }

    #[test]
    fn rule_26_every_way_into_a_udp_port_has_its_endpoints() {
        let found = endpoints(&[("10.244.0.1", "")]);
        for (address, port, endpoint, has) in [
            ("10.96.0.10", 53, 5353, true),
            ("192.0.2.53", 53, 5353, true),
            ("192.0.2.1", 30053, 5353, true),
            ("192.0.2.1", 53, 5353, false),
            ("10.96.0.10", 53, 5354, false),
            ("10.96.0.10", 54, 5354, false),
        ] {
            let endpoint = at("10.244.0.1", endpoint);
            assert_eq!(found.v4.has(at(address, port), endpoint), has, "{address}:{port}");
        }
    }

    #[test]
    fn rule_26_an_endpoint_is_gone_when_it_neither_is_ready_nor_serves() {
        for (conditions, stays) in [
            ("ready: true", true),
            ("ready: false, serving: true, terminating: true", true),
            ("ready: false, serving: false, terminating: true", false),
            ("ready: false, serving: false", false),
        ] {
            let before = endpoints(&[("10.244.0.1", ""), ("10.244.0.2", "")]);
            let now = endpoints(&[("10.244.0.1", conditions), ("10.244.0.2", "")]);
            assert_eq!(before.lost(&now), !stays, "{conditions}");
            let flow = (at("10.96.0.10", 53), at("10.244.0.1", 5353));
            assert_eq!(now.v4.has(flow.0, flow.1), stays, "{conditions}");
        }
    }

    #[test]
    fn rule_26_only_what_goes_is_a_loss() {
        let (none, one, two) = (
            endpoints(&[]),
            endpoints(&[("10.244.0.1", "")]),
            endpoints(&[("10.244.0.1", ""), ("10.244.0.2", "")]),
        );
        let deleted = UdpEndpoints::default();
        for (before, now, lost) in [
            (&deleted, &one, false),
            (&one, &one, false),
            (&one, &two, false),
            (&two, &one, true),
            (&one, &none, true),
            (&one, &deleted, true),
        ] {
            assert_eq!(before.lost(now), lost);
        }
    }
}
