//! The lab itself, without svcproxy: what fails here is not the datapath's fault.

use std::{fs, net::SocketAddr, path::Path};

use svcproxy_tests::{
    client::{self, Connection},
    lab::Lab,
    leftovers, namespace, payload,
    topology::{CLIENT, NODE, REMOTE, Topology},
};

#[test]
fn client_reaches_every_pod_over_plain_routing() {
    for wire in [true, false] {
        let lab = Lab::new(&Topology {
            wire,
            remote: true,
            ..Topology::default()
        })
        .unwrap();
        for pod in &lab.pods {
            for (family, address) in pod.addresses.into_iter().enumerate() {
                let target = SocketAddr::new(address, 8080);
                let (name, peer, udp) = lab.client.enter(|| {
                    let name = client::block_on(client::get(target, "/")).unwrap();
                    let peer = client::block_on(client::get(target, "/peer")).unwrap();
                    (name, peer, client::udp(target, b"hello").unwrap())
                });
                assert_eq!(name, pod.name);
                assert_eq!(udp, pod.name);
                assert_eq!(peer, CLIENT[family].to_string());
            }
        }
    }
}

#[test]
fn transfers_arrive_intact_over_plain_routing() {
    let lab = Lab::new(&Topology::default()).unwrap();
    let target = SocketAddr::new(lab.pods[0].addresses[0], 8080);
    let length = 10_000_000;
    lab.client.enter(|| {
        client::block_on(async {
            let mut connection = Connection::open(target).await.unwrap();
            assert_eq!(connection.download(length).await.unwrap(), payload::hash(length));
            assert_eq!(connection.upload(length).await.unwrap(), payload::hash(length));
        });
    });
}

#[test]
fn curl_and_ping_work() {
    let lab = Lab::new(&Topology::default()).unwrap();
    let url = format!("http://{}:8080/", lab.pods[0].addresses[0]);
    assert_eq!(
        lab.client
            .run("curl", &["-sS", "--max-time", "5", &url])
            .unwrap()
            .trim(),
        lab.pods[0].name
    );
    for address in NODE.iter().chain(&lab.pods[0].addresses) {
        lab.client.run("ping", &["-c1", "-W2", &address.to_string()]).unwrap();
    }
}

#[test]
fn a_pod_can_be_replaced() {
    let mut lab = Lab::new(&Topology::default()).unwrap();
    let name = lab.pods[0].name.clone();
    lab.remove_pod(&name).unwrap();
    lab.add_pod(&svcproxy_tests::topology::PodSpec::new("kubia-new", 14))
        .unwrap();
    let target = SocketAddr::new(lab.pod("kubia-new").unwrap().addresses[1], 8443);
    assert_eq!(
        lab.client.enter(|| client::block_on(client::get(target, "/"))).unwrap(),
        "kubia-new"
    );
}

#[test]
fn nothing_is_left_behind() {
    let lab = Lab::new(&Topology {
        remote: true,
        ..Topology::default()
    })
    .unwrap();
    assert!(lab.pod(REMOTE).is_ok());
    let directory = lab.directory();
    let name = directory.file_name().unwrap().to_string_lossy().into_owned();
    let pids: Vec<i32> = lab.pods.iter().flat_map(|pod| pod.namespace.pids().unwrap()).collect();
    assert_eq!(pids.len(), 4);
    drop(lab);
    assert!(leftovers::namespaces(&name).is_empty());
    assert!(!directory.exists());
    assert!(!fs::read_to_string("/proc/self/mounts").unwrap().contains(&name));
    assert!(
        pids.iter()
            .all(|pid| !Path::new("/proc").join(pid.to_string()).exists())
    );
    assert!(Path::new(namespace::DIRECTORY).exists());
}
