//! Section 3: what becomes of traffic for which there is no endpoint, no such port, no such Service.

use crate::given::{exposed, here_and_there, scene, service, slice};

#[test]
fn section_3_no_endpoint_anywhere_is_refused_in_every_way() {
    scene([
        exposed("none", 1, ""),
        exposed(
            "unready",
            2,
            "externalTrafficPolicy: Local, internalTrafficPolicy: Local",
        ),
        slice("unready", &["10.1.0.1, nodeName: here, conditions: {ready: false}"]),
    ])
    .judges(
        "
        out   10.96.0.1:80/tcp           reject
        pod   10.96.0.1:80/tcp           reject
        node  10.96.0.1:80/tcp           reject
        out   198.18.0.1:80/tcp          reject
        out   203.0.113.1:80/tcp         reject
        pod   192.0.2.1:30001/tcp        reject
        out6  [fd00:10:96::1]:80/tcp     reject
        out6  [2001:db8:2::1]:30001/tcp  reject
        pod   10.96.0.2:80/tcp           reject
        out   198.18.0.2:80/tcp          reject       # a Local policy with none elsewhere either
        out   192.0.2.1:30002/tcp        reject
        ",
    );
}

#[test]
fn section_3_other_ports_and_addresses() {
    scene([exposed("web", 10, ""), here_and_there("web"), exposed("none", 11, "")]).judges(
        "
        out   10.96.0.10:81/tcp          reject
        pod   10.96.0.10:80/udp          reject       # there is no such ServicePort
        pod   10.96.0.10:80/sctp         reject
        pod   10.96.0.11:81/tcp          reject
        pod6  [fd00:10:96::10]:81/tcp    reject
        pod   10.96.0.99:80/tcp          drop         # in the range, nobody's
        node  10.111.255.254:53/udp      drop
        out   10.112.0.1:80/tcp          pass         # just outside of the range
        out   10.95.255.255:80/tcp       pass
        pod6  [fd00:10:96::99]:80/tcp    drop
        pod6  [fd00:10:97::99]:80/tcp    pass
        out   198.18.0.10:81/tcp         pass
        out   198.18.0.10:80/udp         pass
        out   203.0.113.10:81/tcp        pass
        out   198.18.0.99:80/tcp         pass
        pod   10.1.0.1:8080/tcp          pass         # an endpoint itself
        out   8.8.8.8:53/udp             pass
        out6  [2001:db8::1]:53/udp       pass
        ",
    );
}

#[test]
fn section_3_another_service_range() {
    scene([service("web", "clusterIP: 172.20.0.10"), slice("web", &["10.1.0.1"])])
        .flag("--service-cluster-ip-range=172.20.0.0/16")
        .judges(
            "
            pod   172.20.0.10:80/tcp         a
            pod   172.20.0.10:81/tcp         reject
            pod   172.20.0.11:80/tcp         drop
            pod   10.96.0.10:80/tcp          pass
            pod6  [fd00:10:96::1]:80/tcp     pass
            ",
        );
}
