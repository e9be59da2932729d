//! What arrives through a Service is what was sent, and who asked is who the pod sees.

use svcproxy_tests::{
    client::{self, Connection},
    payload,
    topology::CLIENT,
};

use crate::{
    over_xdp_and_tc,
    scenario::{HTTP, Scenario},
};

/// 100 MB.
const LENGTH: u64 = 100_000_000;

over_xdp_and_tc!(
    transfers_arrive_intact,
    kept_connections_stay_with_one_pod,
    pods_see_the_client_itself
);

fn transfers_arrive_intact(mode: &str) {
    let scenario = Scenario::alone(mode);
    let expected = payload::hash(LENGTH);
    for target in scenario.targets(HTTP) {
        let (down, up) = scenario.lab.client.enter(|| {
            client::block_on(async {
                let mut connection = Connection::open(target).await.unwrap();
                let down = connection.download(LENGTH).await.unwrap();
                (down, connection.upload(LENGTH).await.unwrap())
            })
        });
        assert_eq!(down, expected, "download from {target}");
        assert_eq!(up, expected, "upload to {target}");
    }
}

fn kept_connections_stay_with_one_pod(mode: &str) {
    let scenario = Scenario::new(mode);
    for target in scenario.targets(HTTP) {
        let answers = scenario.lab.client.enter(|| {
            client::block_on(async {
                let mut connection = Connection::open(target).await.unwrap();
                let mut answers = Vec::new();
                for _ in 0..100 {
                    answers.push(connection.get("/").await.unwrap());
                }
                answers
            })
        });
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    }
}

fn pods_see_the_client_itself(mode: &str) {
    let scenario = Scenario::new(mode);
    for (target, client) in scenario.targets(HTTP).into_iter().zip(CLIENT) {
        let peer = scenario
            .lab
            .client
            .enter(|| client::block_on(client::get(target, "/peer")))
            .unwrap();
        assert_eq!(peer, client.to_string());
    }
}
