//! Connections, clients and counters; and what holds for every resource.

use std::net::SocketAddr;

use serde_json::Value;
use svcproxy_common::abi::{AffinityEntry, AffinityKey, Delivery, FlowEntry, FlowKey, FlowState, Protocol, V4Addr};

use super::{
    super::{ReasonCount, Snapshot},
    cluster::{cluster, get},
};
use crate::plan::MapAddress;

#[test]
fn flows() {
    insta::assert_snapshot!(get(&with_traffic(), "flows"), @r"
    PROTO   CLIENT                SERVICE         SERVICE-ADDRESS      ENDPOINT           STATE           IDLE
    UDP     192.0.2.7:40000       <unknown>       10.96.0.99:53        10.1.0.8:53        UDP_UNREPLIED   3m20s
    TCP     192.0.2.7:40001       default/kubia   10.96.0.10:443       10.1.0.2:9443      ESTABLISHED     3s
    TCP     192.0.2.8:40003       default/kubia   10.96.0.10:443       10.1.0.2:9443      ESTABLISHED     9s
    TCP     [2001:db8::7]:40002   default/kubia   [fd00:10:96::a]:80   [fd00:1::1]:8080   CLOSING         0s
    ");
    insta::assert_snapshot!(get(&with_traffic(), "flows -n default"), @r"
    PROTO   CLIENT                SERVICE         SERVICE-ADDRESS      ENDPOINT           STATE         IDLE
    TCP     192.0.2.7:40001       default/kubia   10.96.0.10:443       10.1.0.2:9443      ESTABLISHED   3s
    TCP     192.0.2.8:40003       default/kubia   10.96.0.10:443       10.1.0.2:9443      ESTABLISHED   9s
    TCP     [2001:db8::7]:40002   default/kubia   [fd00:10:96::a]:80   [fd00:1::1]:8080   CLOSING       0s
    ");
}

#[test]
fn flows_wide() {
    insta::assert_snapshot!(get(&with_traffic(), "flows -o wide"), @r"
    PROTO   CLIENT                SERVICE         SERVICE-ADDRESS      ENDPOINT           STATE           IDLE    SEEN-AS               NEXT-HOP                     TABLE
    UDP     192.0.2.7:40000       <unknown>       10.96.0.99:53        10.1.0.8:53        UDP_UNREPLIED   3m20s   192.0.2.7:40000       ROUTING                      pending
    TCP     192.0.2.7:40001       default/kubia   10.96.0.10:443       10.1.0.2:9443      ESTABLISHED     3s      192.0.2.7:40001       XDP:if4:02:00:00:00:00:1f    flows
    TCP     192.0.2.8:40003       default/kubia   10.96.0.10:443       10.1.0.2:9443      ESTABLISHED     9s      192.0.2.8:40003       RESET                        flows
    TCP     [2001:db8::7]:40002   default/kubia   [fd00:10:96::a]:80   [fd00:1::1]:8080   CLOSING         0s      [2001:db8::7]:40002   PEER:if4:02:00:00:00:00:1f   flows
    ");
}

#[test]
fn flows_as_objects() {
    insta::assert_snapshot!(get(&with_traffic(), "flows -n default -o yaml"), @r"
    items:
    - client: 192.0.2.7:40001
      delivery: XDP
      endpoint: 10.1.0.2:9443
      idleSeconds: 3
      ifindex: 4
      nextHop: 02:00:00:00:00:1f
      protocol: TCP
      service: default/kubia
      serviceAddress: 10.96.0.10:443
      source: 192.0.2.7:40001
      state: ESTABLISHED
      table: flows
    - client: 192.0.2.8:40003
      delivery: RESET
      endpoint: 10.1.0.2:9443
      idleSeconds: 9
      ifindex: null
      nextHop: null
      protocol: TCP
      service: default/kubia
      serviceAddress: 10.96.0.10:443
      source: 192.0.2.8:40003
      state: ESTABLISHED
      table: flows
    - client: '[2001:db8::7]:40002'
      delivery: PEER
      endpoint: '[fd00:1::1]:8080'
      idleSeconds: 0
      ifindex: 4
      nextHop: 02:00:00:00:00:1f
      protocol: TCP
      service: default/kubia
      serviceAddress: '[fd00:10:96::a]:80'
      source: '[2001:db8::7]:40002'
      state: CLOSING
      table: flows
    kind: FlowList
    ");
}

#[test]
fn affinity() {
    insta::assert_snapshot!(get(&with_traffic(), "affinity"), @r"
    SERVICE         CLIENT      ENDPOINT   EXPIRES-IN
    <unknown>       192.0.2.9   <none>     expired
    default/kubia   192.0.2.7   10.1.0.1   179m
    default/kubia   192.0.2.8   <none>     3h
    default/kubia   192.0.2.9   10.1.0.2   expired
    ");
    insta::assert_snapshot!(get(&with_traffic(), "affinity -o json"), @r#"
    {
      "items": [
        {
          "client": "192.0.2.9",
          "endpoint": null,
          "expiresInSeconds": 0,
          "service": null
        },
        {
          "client": "192.0.2.7",
          "endpoint": "10.1.0.1",
          "expiresInSeconds": 10740,
          "service": "default/kubia"
        },
        {
          "client": "192.0.2.8",
          "endpoint": null,
          "expiresInSeconds": 10800,
          "service": "default/kubia"
        },
        {
          "client": "192.0.2.9",
          "endpoint": "10.1.0.2",
          "expiresInSeconds": 0,
          "service": "default/kubia"
        }
      ],
      "kind": "AffinityList"
    }
    "#);
}

#[test]
fn reasons() {
    insta::assert_snapshot!(get(&with_traffic(), "reasons"), @r"
    REASON        PACKETS   DESCRIPTION
    forwarded     1234567   rewritten and sent on
    no_endpoint   0         the Service has no endpoint that may be chosen
    ");
    insta::assert_snapshot!(get(&with_traffic(), "reasons -o yaml"), @r"
    items:
    - description: rewritten and sent on
      packets: 1234567
      reason: forwarded
    - description: the Service has no endpoint that may be chosen
      packets: 0
      reason: no_endpoint
    kind: ReasonList
    ");
}

#[test]
fn json_and_yaml_hold_the_same() {
    for resource in ["services", "endpoints", "flows", "affinity", "reasons"] {
        let snapshot = with_traffic();
        let json: Value = serde_json::from_str(&get(&snapshot, &format!("{resource} -o json"))).unwrap();
        let yaml: Value = serde_yaml::from_str(&get(&snapshot, &format!("{resource} -o yaml"))).unwrap();
        assert_eq!(json, yaml);
        assert!(
            json["items"].as_array().is_some_and(|items| !items.is_empty()),
            "{json}"
        );
    }
}

/// The cluster with connections, clients that stay, and counters.
fn with_traffic() -> Snapshot {
    let mut snapshot = cluster();
    let now = snapshot.now_monotonic;
    let https = Connection {
        client: "192.0.2.7:40001",
        vip: "10.96.0.10:443",
        endpoint: "10.1.0.2:9443",
    };
    let gone = Connection {
        client: "192.0.2.7:40000",
        vip: "10.96.0.99:53",
        endpoint: "10.1.0.8:53",
    };
    let six = Connection {
        client: "[2001:db8::7]:40002",
        vip: "[fd00:10:96::a]:80",
        endpoint: "[fd00:1::1]:8080",
    };
    let lost = Connection {
        client: "192.0.2.8:40003",
        vip: "10.96.0.10:443",
        endpoint: "10.1.0.2:9443",
    };
    snapshot
        .v4
        .flows
        .extend(lost.entries(Protocol::TCP, FlowState::ESTABLISHED, Delivery::RESET, now - 9));
    snapshot
        .v4
        .flows
        .extend(https.entries(Protocol::TCP, FlowState::ESTABLISHED, Delivery::XDP, now - 3));
    snapshot
        .v4
        .pending
        .extend(gone.entries(Protocol::UDP, FlowState::UDP_UNREPLIED, Delivery::ROUTING, now - 200));
    snapshot
        .v6
        .flows
        .extend(six.entries(Protocol::TCP, FlowState::CLOSING, Delivery::PEER, now));
    for (client, service, endpoint, idle) in [
        ("192.0.2.7", 3, 6, 60),
        ("192.0.2.8", 3, 99, 0),
        ("192.0.2.9", 3, 7, 10800),
        ("192.0.2.9", 77, 1, 0),
    ] {
        let client = V4Addr::from_ip(client.parse().unwrap()).unwrap();
        let entry = AffinityEntry {
            endpoint,
            last_seen: now - idle,
        };
        snapshot.v4.affinity.push((
            AffinityKey {
                client,
                service,
                reserved: 0,
            },
            entry,
        ));
    }
    let count = |reason: &str, packets, description: &str| ReasonCount {
        reason: reason.into(),
        packets,
        description: description.into(),
    };
    snapshot.reasons = vec![
        count("forwarded", 1_234_567, "rewritten and sent on"),
        count("no_endpoint", 0, "the Service has no endpoint that may be chosen"),
    ];
    snapshot
}

struct Connection {
    client: &'static str,
    vip: &'static str,
    endpoint: &'static str,
}

impl Connection {
    /// Both entries.
    fn entries<A: MapAddress>(
        &self,
        protocol: Protocol,
        state: FlowState,
        delivery: Delivery,
        last_seen: u32,
    ) -> [(FlowKey<A>, FlowEntry<A>); 2] {
        let parse = |text: &str| {
            let socket: SocketAddr = text.parse().unwrap();
            (A::from_ip(socket.ip()).unwrap(), socket.port())
        };
        let (client, vip, endpoint) = (parse(self.client), parse(self.vip), parse(self.endpoint));
        let half = |from: (A, u16), to: (A, u16), new_from: (A, u16), new_to: (A, u16), state| {
            let key = FlowKey {
                src: from.0,
                dst: to.0,
                src_port: from.1,
                dst_port: to.1,
                protocol,
            };
            let entry = FlowEntry {
                src: new_from.0,
                dst: new_to.0,
                src_port: new_from.1,
                dst_port: new_to.1,
                address_delta: 0,
                port_delta: 0,
                ifindex: 4,
                last_seen,
                mtu: 1500,
                state,
                delivery,
                dst_mac: [2, 0, 0, 0, 0, 0x1f],
                src_mac: [2, 0, 0, 0, 0, 1],
            };
            (key, entry)
        };
        [
            half(client, vip, client, endpoint, state),
            half(endpoint, client, vip, client, FlowState::REPLY),
        ]
    }
}
