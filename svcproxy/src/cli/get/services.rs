//! `get services`: as `kubectl get services` prints them.

use serde_json::{Value, json};

use super::{
    Listing, Snapshot,
    directory::{Directory, Service, UNKNOWN},
    endpoints::summary,
    table::Table,
    time::{human_duration, timestamp},
};

/// The Services, as rows and as `v1/Service` objects.
pub(super) fn list(directory: &Directory<'_>, snapshot: &Snapshot, namespace: Option<&str>, wide: bool) -> Listing {
    let mut table = Table::new(match wide {
        true => "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE SELECTOR ENDPOINTS AFFINITY",
        false => "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE",
    });
    for service in directory.of_namespace(namespace) {
        let ports: Vec<_> = service.ports.iter().map(|port| port.with_node_port()).collect();
        let mut row = vec![
            service.short_name().to_owned(),
            service.record.map_or(UNKNOWN, |record| &record.service_type).to_owned(),
            service.cluster_ips.first().map(ToString::to_string).unwrap_or_default(),
            external_ip(service),
            ports.join(","),
            age(service, snapshot.now),
        ];
        if wide {
            row.extend([selector(service), summary(service), affinity(service)]);
        }
        table.row(row);
    }
    prepend_namespace(&mut table, directory, namespace);
    Listing {
        kind: "List",
        items: directory.of_namespace(namespace).map(object).collect(),
        table,
    }
}

/// Puts the namespace before the rows of Services, unless one was asked for or all are in `default`.
pub(super) fn prepend_namespace(table: &mut Table, directory: &Directory<'_>, namespace: Option<&str>) {
    let elsewhere = |service: &Service<'_>| service.name.as_ref().is_some_and(|name| name.namespace != "default");
    if namespace.is_none() && directory.services.iter().any(elsewhere) {
        let namespaces = directory.services.iter().map(|service| service.namespace().to_owned());
        table.prepend("NAMESPACE", namespaces);
    }
}

/// How long it has been there.
pub(super) fn age(service: &Service<'_>, now: u64) -> String {
    service.record.map_or(UNKNOWN.to_owned(), |record| {
        human_duration(now.saturating_sub(record.created))
    })
}

/// The load balancer's addresses and the external IPs; a LoadBalancer that has neither waits for one.
fn external_ip(service: &Service<'_>) -> String {
    let addresses = service.load_balancer_ips.iter().chain(&service.external_ips);
    let addresses: Vec<_> = addresses.map(ToString::to_string).collect();
    match service.record {
        Some(record) if addresses.is_empty() && record.service_type == "LoadBalancer" => "<pending>".to_owned(),
        _ => addresses.join(","),
    }
}

fn selector(service: &Service<'_>) -> String {
    let labels = service.record.into_iter().flat_map(|record| &record.selector);
    labels
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

fn affinity(service: &Service<'_>) -> String {
    match service.affinity_seconds {
        0 => "None".to_owned(),
        seconds => format!("ClientIP({seconds}s)"),
    }
}

fn object(service: &Service<'_>) -> Value {
    let ports: Vec<_> = service
        .ports
        .iter()
        .map(|port| {
            let mut object = json!({"port": port.port, "protocol": port.protocol});
            if !port.name.is_empty() {
                object["name"] = port.name.clone().into();
            }
            if let Some(node_port) = port.node_port {
                object["nodePort"] = node_port.into();
            }
            object
        })
        .collect();
    let families: Vec<_> = service
        .cluster_ips
        .iter()
        .map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" })
        .collect();
    let mut spec = json!({
        "clusterIP": service.cluster_ips.first(),
        "clusterIPs": service.cluster_ips,
        "ipFamilies": families,
        "ports": ports,
        "sessionAffinity": "None",
    });
    if service.affinity_seconds > 0 {
        spec["sessionAffinity"] = "ClientIP".into();
        spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": service.affinity_seconds}});
    }
    if !service.external_ips.is_empty() {
        spec["externalIPs"] = json!(service.external_ips);
    }
    if let Some(record) = service.record {
        if let Some(port) = record.health_check_node_port {
            spec["healthCheckNodePort"] = port.into();
        }
        spec["type"] = record.service_type.clone().into();
        if !record.selector.is_empty() {
            spec["selector"] = json!(record.selector);
        }
    }
    let mut object = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(service), "spec": spec});
    if !service.load_balancer_ips.is_empty() {
        let ingress: Vec<_> = service.load_balancer_ips.iter().map(|ip| json!({"ip": ip})).collect();
        object["status"] = json!({"loadBalancer": {"ingress": ingress}});
    }
    object
}

/// `metadata` of an object about a Service.
pub(super) fn metadata(service: &Service<'_>) -> Value {
    let mut metadata = json!({"name": service.short_name()});
    if let Some(name) = &service.name {
        metadata["namespace"] = name.namespace.clone().into();
    }
    if let Some(created) = service.record.and_then(|record| timestamp(record.created)) {
        metadata["creationTimestamp"] = created.into();
    }
    metadata
}
