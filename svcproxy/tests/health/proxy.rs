//! `/healthz` and `/livez`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use svcproxy::health::{Health, OVERDUE, ProxyServer};

use crate::client::{ask, get};

/// What happens, then the statuses of `/healthz` and `/livez`, and whether the node is eligible.
type Step = (&'static str, fn(&Health), u16, u16, bool);

#[tokio::test]
async fn rule_28_the_proxy_is_ready_after_its_first_update_and_while_none_is_overdue() {
    fn long_ago() -> SystemTime {
        SystemTime::now() - OVERDUE - Duration::from_secs(1)
    }
    const STEPS: &[Step] = &[
        ("at the start", |_| {}, 503, 200, true),
        ("queued", |health| health.queued(SystemTime::now()), 503, 200, true),
        ("updated", |health| health.updated(SystemTime::now()), 200, 200, true),
        (
            "queued again",
            |health| health.queued(SystemTime::now()),
            200,
            200,
            true,
        ),
        ("refused", |health| health.refused(), 200, 200, true),
        ("overdue", |health| health.queued(long_ago()), 503, 503, true),
        (
            "updated at last",
            |health| health.updated(SystemTime::now()),
            200,
            200,
            true,
        ),
        (
            "the node leaves",
            |health| health.set_node_leaves(true),
            503,
            200,
            false,
        ),
        ("the node stays", |health| health.set_node_leaves(false), 200, 200, true),
    ];
    let health = Arc::new(Health::default());
    let server = ProxyServer::start("127.0.0.1:0".parse().unwrap(), health.clone()).unwrap();
    for (what, act, healthz, livez, eligible) in STEPS {
        act(&health);
        let answer = get(server.address(), "/healthz").await;
        assert_eq!(answer.status, *healthz, "{what}: {answer:?}");
        assert_eq!(answer.json()["nodeEligible"], *eligible, "{what}");
        assert_eq!(get(server.address(), "/livez").await.status, *livez, "{what}");
    }
}

#[tokio::test]
async fn the_body_is_kube_proxys() {
    let health = Arc::new(Health::default());
    let server = ProxyServer::start("[::1]:0".parse().unwrap(), health.clone()).unwrap();
    let address = server.address();

    let answer = get(address, "/healthz").await;
    assert_eq!(answer.json()["lastUpdated"], "0001-01-01T00:00:00Z");

    health.updated(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    let answer = get(address, "/healthz").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let body = answer.json();
    assert_eq!(body["lastUpdated"], body["currentTime"], "recent while all is well");
    let keys: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["currentTime", "lastUpdated", "nodeEligible"]);
    let keys: Vec<_> = get(address, "/livez")
        .await
        .json()
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(keys, ["currentTime", "lastUpdated"]);

    health.set_node_leaves(true);
    assert_eq!(
        get(address, "/healthz").await.json()["lastUpdated"],
        "2001-09-09T01:46:40Z"
    );

    assert_eq!(get(address, "/").await.status, 404);
    assert_eq!(ask("HEAD", address, "/livez").await.unwrap().body, "");
}

#[tokio::test]
async fn a_port_in_use_is_an_error_and_a_dropped_server_frees_it() {
    let health = Arc::new(Health::default());
    let server = ProxyServer::start("127.0.0.1:0".parse().unwrap(), health.clone()).unwrap();
    let address = server.address();
    assert!(ProxyServer::start(address, health.clone()).is_err());
    drop(server);
    while ask("GET", address, "/livez").await.is_some() {
        tokio::task::yield_now().await;
    }
    ProxyServer::start(address, health).unwrap();
}
