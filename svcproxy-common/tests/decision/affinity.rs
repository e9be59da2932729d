//! `sessionAffinity: ClientIP`: a client keeps its endpoint.

use std::net::SocketAddr;

use svcproxy_common::{Reason, abi::Protocol::TCP};

use crate::{
    endpoints,
    model::{Cluster, Ip, Node, service, tcp},
};

const TIMEOUT: u32 = 100;

/// A node with a Service whose endpoints change; each new connection comes from another port.
struct Sticky {
    ip: Ip,
    node: Node,
    cluster: Cluster,
    port: u16,
}

impl Sticky {
    fn new(ip: Ip, pods: &[u16]) -> Self {
        let mut sticky = Self {
            ip,
            node: Node::new(),
            cluster: Cluster::default(),
            port: 1000,
        };
        sticky.serve(pods);
        sticky
    }

    /// Ports 80 and 443, on 8080 and 8443 of these pods.
    fn serve(&mut self, pods: &[u16]) {
        for (port, target) in [(80, 8080), (443, 8443)] {
            let endpoints = endpoints(self.ip, target, pods.iter().copied());
            let port = service(1, TCP, self.ip.vip(1, port), &endpoints).affinity(TIMEOUT);
            self.cluster.put(&self.node.tables, port);
        }
    }

    fn open(&mut self, client: u16, port: u16) -> Result<SocketAddr, Reason> {
        self.port += 1;
        let outcome = self
            .node
            .run(&tcp(self.ip.client(client, self.port), self.ip.vip(1, port), "S"));
        outcome.verdict.map(|_| outcome.dst())
    }

    /// The number of the pod that a new connection of a client reaches.
    fn pod(&mut self, client: u16) -> u16 {
        let endpoint = self.open(client, 80).unwrap();
        (1..=9).find(|&pod| self.ip.pod(pod, 8080) == endpoint).unwrap()
    }
}

#[test]
fn a_client_reaches_one_pod_on_all_ports() {
    for ip in Ip::ALL {
        let mut sticky = Sticky::new(ip, &[1, 2, 3]);
        let mut used = std::collections::BTreeSet::new();
        for client in 1..=50 {
            let pod = sticky.open(client, 80).unwrap().ip();
            used.insert(pod);
            for port in [443, 80, 443] {
                assert_eq!(sticky.open(client, port).unwrap().ip(), pod);
            }
            // Before anything is stored the hash says the same: another node, a full table.
            assert_eq!(Sticky::new(ip, &[1, 2, 3]).open(client, 443).unwrap().ip(), pod);
            sticky.node.tables.v4.affinity.clear();
            sticky.node.tables.v6.affinity.clear();
            assert_eq!(sticky.open(client, 443).unwrap().ip(), pod);
        }
        assert_eq!(used.len(), 3);
    }
}

#[test]
fn a_client_keeps_its_pod_while_that_is_in_the_set() {
    for ip in Ip::ALL {
        for client in 1..=20 {
            let mut sticky = Sticky::new(ip, &[1, 2, 3]);
            let pod = sticky.pod(client);
            for others in [&[4, 5, 6, 7][..], &[], &[8, 9]] {
                sticky.serve(&[&[pod], others].concat());
                assert_eq!(sticky.pod(client), pod);
            }
            let other = pod % 3 + 1;
            sticky.serve(&[other]);
            assert_eq!(sticky.pod(client), other, "its pod has gone");
            sticky.serve(&[1, 2, 3]);
            assert_eq!(sticky.pod(client), other, "the new choice is kept");
        }
    }
}

#[test]
fn affinity_ends_when_its_time_without_a_new_connection_is_over() {
    for ip in Ip::ALL {
        // Forgotten, they choose pod 2.
        let clients: Vec<u16> = (1..)
            .filter(|&client| Sticky::new(ip, &[1, 2]).pod(client) == 2)
            .take(10)
            .collect();
        for client in clients {
            for (waits, kept) in [
                (&[TIMEOUT][..], true),
                (&[TIMEOUT + 1], false),
                (&[TIMEOUT, TIMEOUT, TIMEOUT], true), // each connection begins the time anew
                (&[TIMEOUT, TIMEOUT + 1], false),
            ] {
                let mut sticky = Sticky::new(ip, &[1]);
                assert_eq!(sticky.pod(client), 1);
                sticky.serve(&[1, 2]);
                for (index, &wait) in waits.iter().enumerate() {
                    sticky.node.wait(wait);
                    let last = index + 1 == waits.len();
                    assert_eq!(sticky.pod(client) == 1, kept || !last, "{waits:?}");
                }
            }
        }
    }
}

#[test]
fn a_processor_whose_clock_reads_a_second_less_keeps_the_pod() {
    for ip in Ip::ALL {
        let mut sticky = Sticky::new(ip, &[1]);
        let client = (1..).find(|&client| Sticky::new(ip, &[1, 2]).pod(client) == 2).unwrap();
        assert_eq!(sticky.pod(client), 1);
        sticky.serve(&[1, 2]);
        sticky.node.now.set(sticky.node.now.get() - 1);
        assert_eq!(sticky.pod(client), 1);
    }
}

#[test]
fn a_connection_that_found_no_endpoint_refreshes_nothing() {
    for ip in Ip::ALL {
        let mut sticky = Sticky::new(ip, &[1]);
        let client = (1..).find(|&client| Sticky::new(ip, &[1, 2]).pod(client) == 2).unwrap();
        assert_eq!(sticky.pod(client), 1);
        sticky.serve(&[]);
        for _ in 0..=TIMEOUT {
            sticky.node.wait(1);
            assert_eq!(sticky.open(client, 80), Err(Reason::NoEndpoint));
        }
        sticky.serve(&[1, 2]);
        assert_eq!(sticky.pod(client), 2);
    }
}
