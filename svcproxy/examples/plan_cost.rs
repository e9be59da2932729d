//! What planning costs: `cargo run --release -p svcproxy --example plan_cost [SERVICES]`.
//!
//! Prints the time of the first plan, of a plan for an unchanged model and of one with an endpoint replaced, each
//! with its diff; the best of twenty runs, in milliseconds.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use svcproxy::{
    model::{Endpoint, Model, NodePolicy, Protocol, Service, ServiceName, ServicePort, ServiceType, TrafficPolicy},
    plan::{Diff, Limits, MapContents, plan},
};

const ENDPOINTS: u32 = 3;
const RUNS: u32 = 20;

fn main() {
    let services = std::env::args()
        .nth(1)
        .map_or(20_000, |count| count.parse().expect("SERVICES is a number"));
    let model = Model {
        services: (0..services).map(service).collect(),
        ..Model::default()
    };
    let empty = MapContents::default();
    let current = measure("first plan", &empty, &model);
    measure("nothing changed", &current, &model);

    let mut changed = model.clone();
    changed.services[services as usize / 2].ports[0].endpoints[1].address = Ipv4Addr::new(172, 16, 0, 1).into();
    measure("one endpoint replaced", &current, &changed);
}

fn measure(what: &str, current: &MapContents, model: &Model) -> MapContents {
    let (policy, limits) = (NodePolicy::default(), Limits { backend_slots: 1 << 22 });
    let (mut planning, mut comparing) = (Duration::MAX, Duration::MAX);
    for _ in 0..RUNS {
        let start = Instant::now();
        let wanted = plan(model, &policy, current, &limits).expect("4 Mi slots suffice");
        planning = planning.min(start.elapsed());
        let start = Instant::now();
        let diff = Diff::between(current, &wanted);
        comparing = comparing.min(start.elapsed());
        drop(diff);
    }
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{} services × {ENDPOINTS} endpoints, {what}: plan {:.2} ms, diff {:.2} ms",
        model.services.len(),
        ms(planning),
        ms(comparing)
    );
    plan(model, &policy, current, &limits).expect("4 Mi slots suffice")
}

fn service(index: u32) -> Service {
    let endpoint = |nth| Endpoint::ready(address(0x0a80_0000 + index * ENDPOINTS + nth), 8080);
    Service {
        name: ServiceName {
            namespace: "default".into(),
            name: format!("service-{index:05}"),
        },
        service_type: ServiceType::ClusterIp,
        cluster_ips: vec![address(0x0a60_0000 + index)],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        load_balancer_source_ranges: Vec::new(),
        internal_traffic_policy: TrafficPolicy::Cluster,
        external_traffic_policy: TrafficPolicy::Cluster,
        health_check_node_port: None,
        affinity_seconds: None,
        selector: Default::default(),
        ports: vec![ServicePort {
            name: String::new(),
            protocol: Protocol::TCP,
            port: 80,
            node_port: None,
            endpoints: (0..ENDPOINTS).map(endpoint).collect(),
        }],
    }
}

fn address(bits: u32) -> IpAddr {
    Ipv4Addr::from_bits(bits).into()
}
