//! `get endpoints`: one row for each Service as kubectl prints them, with `-o wide` one for each endpoint.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::{Value, json};

use super::{
    Listing, Snapshot,
    directory::{Directory, Service},
    services::{age, metadata, prepend_namespace},
    table::Table,
};

/// The endpoints that new connections may go to, as rows and as `v1/Endpoints` objects.
pub(super) fn list(directory: &Directory<'_>, snapshot: &Snapshot, namespace: Option<&str>, wide: bool) -> Listing {
    let table = match wide {
        true => wide_table(directory, namespace),
        false => {
            let mut table = Table::new("NAME ENDPOINTS AGE");
            for service in directory.of_namespace(namespace) {
                table.row([
                    service.short_name().to_owned(),
                    summary(service),
                    age(service, snapshot.now),
                ]);
            }
            prepend_namespace(&mut table, directory, namespace);
            table
        }
    };
    Listing {
        kind: "List",
        items: directory.of_namespace(namespace).map(object).collect(),
        table,
    }
}

/// The first three endpoints and how many more there are, as kubectl puts it.
pub(super) fn summary(service: &Service<'_>) -> String {
    const SHOWN: usize = 3;
    let endpoints: Vec<_> = service.ports.iter().flat_map(|port| &port.endpoints).collect();
    let shown: Vec<_> = endpoints
        .iter()
        .take(SHOWN)
        .map(|endpoint| endpoint.address.to_string())
        .collect();
    match endpoints.len().saturating_sub(SHOWN) {
        0 => shown.join(","),
        more => format!("{} + {more} more...", shown.join(",")),
    }
}

fn wide_table(directory: &Directory<'_>, namespace: Option<&str>) -> Table {
    let mut table = Table::new("SERVICE PORT ENDPOINT POD SLOTS%");
    for service in directory.of_namespace(namespace) {
        let name = service.qualified_name();
        for port in &service.ports {
            let number = match port.name.as_str() {
                "" => port.number(),
                name => format!("{name}:{}", port.number()),
            };
            if port.endpoints.is_empty() {
                table.row([
                    name.clone(),
                    number.clone(),
                    String::new(),
                    String::new(),
                    String::new(),
                ]);
            }
            for endpoint in &port.endpoints {
                table.row([
                    name.clone(),
                    number.clone(),
                    endpoint.address.to_string(),
                    service.pod(endpoint.address.ip()).unwrap_or_default().to_owned(),
                    endpoint
                        .share
                        .map(|share| format!("{:.1}", 100.0 * share))
                        .unwrap_or_default(),
                ]);
            }
        }
    }
    table
}

/// Addresses with the same ports make a subset, as the endpoints controller groups them.
fn object(service: &Service<'_>) -> Value {
    let mut by_address = BTreeMap::<IpAddr, Vec<(&str, u16, &str)>>::new();
    for port in &service.ports {
        for endpoint in &port.endpoints {
            let ports = by_address.entry(endpoint.address.ip()).or_default();
            ports.push((&port.name, endpoint.address.port(), &port.protocol));
        }
    }
    let mut subsets = BTreeMap::<_, Vec<_>>::new();
    for (address, ports) in by_address {
        let mut object = json!({"ip": address});
        if let Some(pod) = service.pod(address) {
            object["targetRef"] = json!({"kind": "Pod", "name": pod, "namespace": service.namespace()});
        }
        subsets.entry(ports).or_default().push(object);
    }
    let subset = |(ports, addresses): (Vec<(&str, u16, &str)>, Vec<Value>)| {
        let ports: Vec<_> = ports
            .into_iter()
            .map(|(name, port, protocol)| {
                let mut object = json!({"port": port, "protocol": protocol});
                if !name.is_empty() {
                    object["name"] = name.into();
                }
                object
            })
            .collect();
        json!({"addresses": addresses, "ports": ports})
    };
    let subsets: Vec<_> = subsets.into_iter().map(subset).collect();
    json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata(service), "subsets": subsets})
}
