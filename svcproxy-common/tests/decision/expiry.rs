//! How long a silent connection is remembered: its state decides, and either direction keeps it alive.

use svcproxy_common::abi::Protocol::{self, TCP, UDP};

use crate::{
    endpoints,
    model::{Cluster, Frame, Ip, Node, packet, service},
    passes, vip,
};

/// A packet of a connection: `>` the client's, `<` the endpoint's, then TCP flags; `u` for UDP.
fn frame(ip: Ip, protocol: Protocol, step: &str) -> Frame {
    let (client, vip, pod) = (ip.client(1, 5000), vip(ip, protocol), ip.pod(1, 8080));
    let (direction, flags) = step.split_at(1);
    let (src, dst) = if direction == ">" { (client, vip) } else { (pod, client) };
    packet(protocol, src, dst, flags)
}

const STATES: [(Protocol, &[&str], u32); 8] = [
    // packets, seconds that the state they lead to lasts
    (TCP, &[">S"], 120),
    (TCP, &[">S", "<S."], 60),
    (TCP, &[">S", "<S.", ">."], 86_400),
    (TCP, &[">S", "<S.", ">.", ">F."], 3600),
    (TCP, &[">S", "<S.", ">.", "<F."], 3600),
    (TCP, &[">S", "<S.", ">.", "<F.", ">F."], 120),
    (UDP, &[">"], 30),
    (UDP, &[">", "<"], 120),
];

/// A node on which pod 1 took the connection, and only pod 2 would take another.
fn node_after(ip: Ip, protocol: Protocol, packets: &[&str]) -> Node {
    let node = Node::new();
    let mut cluster = Cluster::default();
    let vip = vip(ip, protocol);
    cluster.put(&node.tables, service(1, protocol, vip, &endpoints(ip, 8080, [1])));
    for packet in packets {
        node.forward(&frame(ip, protocol, packet));
    }
    cluster.put(&node.tables, service(1, protocol, vip, &endpoints(ip, 8080, [2])));
    node
}

#[test]
fn a_connection_is_kept_for_its_state_s_time_and_not_longer() {
    for ip in Ip::ALL {
        for (protocol, packets, seconds) in STATES {
            for (silence, pod) in [(seconds, 1), (seconds + 1, 2)] {
                let node = node_after(ip, protocol, packets);
                node.wait(silence);
                let then = node.forward(&frame(ip, protocol, ">."));
                assert_eq!(then, ip.pod(pod, 8080), "{packets:?} and {silence} s");
            }
        }
    }
}

#[test]
fn a_reply_after_that_time_is_a_stranger_s() {
    for ip in Ip::ALL {
        for (protocol, packets, seconds) in STATES {
            let node = node_after(ip, protocol, packets);
            node.wait(seconds + 1);
            let late = node.run(&frame(ip, protocol, "<."));
            assert!(late.verdict.is_err_and(passes), "{packets:?}: {:?}", late.verdict);
        }
    }
}

#[test]
fn either_direction_keeps_the_connection() {
    for ip in Ip::ALL {
        for (protocol, packets, seconds) in STATES {
            if packets == [">S"] || packets == [">"] {
                continue; // a reply changes these states
            }
            for direction in ["<.", ">."] {
                let node = node_after(ip, protocol, packets);
                for _ in 0..3 {
                    node.wait(seconds);
                    node.forward(&frame(ip, protocol, direction));
                }
                assert_eq!(
                    node.forward(&frame(ip, protocol, ">.")),
                    ip.pod(1, 8080),
                    "{packets:?} {direction}"
                );
            }
        }
    }
}

#[test]
fn a_processor_whose_clock_reads_a_second_less_forgets_nothing() {
    // Between reading the clock and looking at the entry, another processor may have stamped a later second.
    for ip in Ip::ALL {
        for (protocol, packets, _) in STATES {
            for direction in [">.", "<."] {
                let node = node_after(ip, protocol, packets);
                node.wait(1);
                node.forward(&frame(ip, protocol, ">."));
                node.forward(&frame(ip, protocol, "<."));
                node.now.set(node.now.get() - 1);
                node.forward(&frame(ip, protocol, direction));
                assert_eq!(
                    node.forward(&frame(ip, protocol, ">.")),
                    ip.pod(1, 8080),
                    "{packets:?} {direction}"
                );
            }
        }
    }
}
