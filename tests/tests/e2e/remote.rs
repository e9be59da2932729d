//! A backend that is no pod of this node: packets come in by one interface and leave by another.

use svcproxy_tests::{
    client::{self, Connection},
    payload,
    topology::{CLIENT, REMOTE, Topology},
};

use crate::{
    over_xdp_and_tc,
    scenario::{ECHO, HTTP, Scenario, ask, assert_answered_by, kubia, topology},
};

over_xdp_and_tc!(a_backend_beyond_the_node_is_reached);

fn a_backend_beyond_the_node_is_reached(mode: &str) {
    let topology = Topology {
        pods: Vec::new(),
        remote: true,
        ..topology(mode)
    };
    let scenario = Scenario::with(mode, &topology, &kubia());
    let length = 5_000_000;
    for (family, target) in scenario.targets(HTTP).into_iter().enumerate() {
        assert_answered_by(&ask(&scenario.lab, target, 100), &[REMOTE]);
        let (peer, down) = scenario.lab.client.enter(|| {
            client::block_on(async {
                let mut connection = Connection::open(target).await.unwrap();
                let peer = connection.get("/peer").await.unwrap();
                (peer, connection.download(length).await.unwrap())
            })
        });
        assert_eq!(peer, CLIENT[family].to_string());
        assert_eq!(down, payload::hash(length));
        let echo = scenario.targets(ECHO)[family];
        assert_answered_by(
            &scenario.lab.client.enter(|| client::udp_sequential(echo, 50)),
            &[REMOTE],
        );
    }
}
