//! Two processors on one connection: whatever the one does between two lookups of the other, no packet is lost and
//! none leaves untranslated.

use svcproxy_common::{
    Table::Flows,
    abi::Protocol::{self, TCP, UDP},
};

use crate::{
    model::{Frame, Ip, Node, packet},
    node, vip,
};

/// More lookups than any packet makes.
const LOOKUPS: usize = 12;

/// A connection on which the client's next packet moves it to flows; that packet, and the endpoint's next.
fn about_to_move(ip: Ip, protocol: Protocol) -> (&'static Node, Frame, Frame) {
    // An interruption outlives the borrow of the node that is interrupted.
    let node: &'static Node = Box::leak(Box::new(node(ip, 3)));
    let (client, vip) = (ip.client(1, 5000), vip(ip, protocol));
    let frame = |src, dst, flags| packet(protocol, src, dst, flags);
    let pod = node.forward(&frame(client, vip, "S"));
    node.forward(&frame(pod, client, "S."));
    (node, frame(client, vip, "."), frame(pod, client, "."))
}

#[test]
fn a_connection_that_is_being_moved_is_always_found() {
    for ip in Ip::ALL {
        for protocol in [TCP, UDP] {
            for second_between in [0, 1] {
                for lookups in 1..=LOOKUPS {
                    for swapped in [false, true] {
                        let (node, request, reply) = about_to_move(ip, protocol);
                        node.wait(second_between);
                        let (first, second) = if swapped {
                            (&request, reply.clone())
                        } else {
                            (&reply, request.clone())
                        };
                        node.tables.interrupt(lookups, move || {
                            node.forward(&second);
                        });
                        node.forward(first);
                        if !node.tables.interrupted() {
                            continue;
                        }
                        // Both orders end the same.
                        let (client, vip) = (ip.client(1, 5000), vip(ip, protocol));
                        node.forward(&request);
                        assert_eq!(node.run(&reply).src(), vip);
                        let place = node.flow(protocol, client, vip).map(|(table, _)| table);
                        assert_eq!(place, Some(Flows), "{protocol} {lookups} {swapped}");
                    }
                }
            }
        }
    }
}
