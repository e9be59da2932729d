//! Rules 12 to 16: the ways in.

use crate::given::{exposed, here_and_there, scene, service, slice};

#[test]
fn rule_12_and_13_external_traffic_policy_cluster() {
    scene([exposed("web", 10, ""), here_and_there("web")]).judges(
        "
        out   10.96.0.10:80/tcp             a b masq     # not a pod
        pod   10.96.0.10:80/tcp             a b
        node  10.96.0.10:80/tcp             a b masq
        out   198.18.0.10:80/tcp            a b masq
        pod   198.18.0.10:80/tcp            a b masq
        node  198.18.0.10:80/tcp            a b masq
        out   203.0.113.10:80/tcp           a b masq
        pod   203.0.113.10:80/tcp           a b masq
        node  203.0.113.10:80/tcp           a b masq
        out   192.0.2.1:30010/tcp           a b masq
        pod   192.0.2.1:30010/tcp           a b masq
        node  192.0.2.1:30010/tcp           a b masq
        out6  [fd00:10:96::10]:80/tcp       a6 b6 masq
        pod6  [fd00:10:96::10]:80/tcp       a6 b6
        node6 [fd00:10:96::10]:80/tcp       a6 b6 masq
        out6  [2001:db8:18::10]:80/tcp      a6 b6 masq
        pod6  [2001:db8:18::10]:80/tcp      a6 b6 masq
        node6 [2001:db8:18::10]:80/tcp      a6 b6 masq
        out6  [2001:db8:113::10]:80/tcp     a6 b6 masq
        pod6  [2001:db8:113::10]:80/tcp     a6 b6 masq
        node6 [2001:db8:113::10]:80/tcp     a6 b6 masq
        out6  [2001:db8:2::1]:30010/tcp     a6 b6 masq
        pod6  [2001:db8:2::1]:30010/tcp     a6 b6 masq
        node6 [2001:db8:2::1]:30010/tcp     a6 b6 masq
        ",
    );
}

#[test]
fn rule_12_and_13_external_traffic_policy_local() {
    let local = "externalTrafficPolicy: Local";
    scene([
        exposed("web", 10, local),
        here_and_there("web"),
        exposed("away", 11, local),
        slice("away", &["10.1.0.2, nodeName: there"]),
        slice("away", &["fd00:1::2, nodeName: there"]),
    ])
    .judges(
        "
        out   10.96.0.10:80/tcp             a b masq     # the policy is not of cluster IPs
        pod   10.96.0.10:80/tcp             a b
        out   198.18.0.10:80/tcp            a            # and the client keeps its address
        pod   198.18.0.10:80/tcp            a b
        node  198.18.0.10:80/tcp            a b masq
        out   203.0.113.10:80/tcp           a
        pod   203.0.113.10:80/tcp           a b
        node  203.0.113.10:80/tcp           a b masq
        out   192.0.2.1:30010/tcp           a
        pod   192.0.2.1:30010/tcp           a b
        node  192.0.2.1:30010/tcp           a b masq
        out6  [2001:db8:18::10]:80/tcp      a6
        pod6  [2001:db8:113::10]:80/tcp     a6 b6
        node6 [2001:db8:2::1]:30010/tcp     a6 b6 masq
        out   10.96.0.11:80/tcp             b masq
        out   198.18.0.11:80/tcp            drop         # none here, one elsewhere
        pod   198.18.0.11:80/tcp            b
        node  198.18.0.11:80/tcp            b masq
        out   203.0.113.11:80/tcp           drop
        pod   203.0.113.11:80/tcp           b
        out   192.0.2.1:30011/tcp           drop
        pod   192.0.2.1:30011/tcp           b
        node  192.0.2.1:30011/tcp           b masq
        out6  [2001:db8:113::11]:80/tcp     drop
        pod6  [2001:db8:113::11]:80/tcp     b6
        ",
    );
}

#[test]
fn rule_13_without_cluster_cidr_nobody_is_known_to_be_a_pod() {
    scene([
        exposed("web", 10, "externalTrafficPolicy: Local"),
        here_and_there("web"),
    ])
    .without_cluster_cidr()
    .judges(
        "
            out   10.96.0.10:80/tcp        a b
            pod   10.96.0.10:80/tcp        a b
            node  10.96.0.10:80/tcp        a b
            pod   198.18.0.10:80/tcp       a
            node  198.18.0.10:80/tcp       a b masq
            ",
    );
}

#[test]
fn rule_12_internal_traffic_policy_local_binds_everyone_at_the_cluster_ip_alone() {
    let local = "internalTrafficPolicy: Local";
    scene([
        exposed("web", 10, local),
        here_and_there("web"),
        exposed("away", 11, local),
        slice("away", &["10.1.0.2, nodeName: there"]),
    ])
    .judges(
        "
        out   10.96.0.10:80/tcp             a masq
        pod   10.96.0.10:80/tcp             a
        node  10.96.0.10:80/tcp             a masq
        out   198.18.0.10:80/tcp            a b masq
        out   203.0.113.10:80/tcp           a b masq
        pod   192.0.2.1:30010/tcp           a b masq
        pod6  [fd00:10:96::10]:80/tcp       a6
        pod   10.96.0.11:80/tcp             drop
        node  10.96.0.11:80/tcp             drop
        out   10.96.0.11:80/tcp             drop
        out   192.0.2.1:30011/tcp           b masq
        pod6  [fd00:10:96::11]:80/tcp       reject       # none anywhere in this family
        ",
    );
}

#[test]
fn rule_14_ip_mode_and_load_balancer_ip() {
    let ingress = |last: u8, ingress: &str| {
        let spec = format!("type: LoadBalancer, clusterIP: 10.96.0.{last}");
        let status = format!("status: {{loadBalancer: {{ingress: [{ingress}]}}}}, spec:");
        service(&format!("s{last}"), &spec).replace("spec:", &status)
    };
    scene([
        ingress(
            1,
            "{ip: 203.0.113.1}, {ip: 203.0.113.2, ipMode: VIP}, {ip: 203.0.113.3, ipMode: Proxy}",
        ),
        slice("s1", &["10.1.0.1"]),
        ingress(2, "{hostname: lb.example.org}, {ip: '2001:db8:113::2'}"),
        slice("s2", &["10.1.0.2"]),
        service(
            "s3",
            "type: LoadBalancer, clusterIP: 10.96.0.3, loadBalancerIP: 203.0.113.30",
        ),
        slice("s3", &["10.1.0.3"]),
        service("s4", "clusterIP: 10.96.0.4, loadBalancerIP: 203.0.113.40"),
        slice("s4", &["10.1.0.4"]),
    ])
    .judges(
        "
        out   203.0.113.1:80/tcp          a masq
        out   203.0.113.2:80/tcp          a masq
        out   203.0.113.3:80/tcp          pass
        pod   203.0.113.3:80/tcp          pass
        out   203.0.113.1:81/tcp          pass
        out   203.0.113.1:80/udp          pass
        out6  [2001:db8:113::2]:80/tcp    pass         # an IPv4 Service
        out   203.0.113.30:80/tcp         c masq       # what the manifest asks for, in file mode
        out   203.0.113.40:80/tcp         pass         # not of type LoadBalancer
        ",
    );
}

#[test]
fn rule_15_source_ranges_are_of_load_balancer_ips_alone() {
    let ranges = |ranges: &str| format!("loadBalancerSourceRanges: [{ranges}]");
    scene([
        exposed("narrow", 1, &ranges("' 198.51.100.0/24 '")),
        here_and_there("narrow"),
        exposed("other", 2, &ranges("'2001:db8:99::/64'")),
        here_and_there("other"),
        exposed("open", 3, &ranges("10.9.0.0/16, 0.0.0.0/0")),
        here_and_there("open"),
        exposed("node", 4, &ranges("192.0.2.0/24")),
        here_and_there("node"),
        exposed(
            "local",
            5,
            &format!("externalTrafficPolicy: Local, {}", ranges("198.51.100.0/24")),
        ),
        here_and_there("local"),
        exposed("empty", 6, &ranges("198.51.100.0/24")),
    ])
    .judges(
        "
        out            203.0.113.1:80/tcp         a b masq
        198.51.101.7   203.0.113.1:80/tcp         drop
        pod            203.0.113.1:80/tcp         drop
        node           203.0.113.1:80/tcp         drop
        198.51.101.7   198.18.0.1:80/tcp          a b masq
        198.51.101.7   192.0.2.1:30001/tcp        a b masq
        pod            10.96.0.1:80/tcp           a b
        out6           [2001:db8:113::1]:80/tcp   a6 b6 masq   # only IPv4 ranges: no filter in IPv6
        out            203.0.113.2:80/tcp         a b masq
        out6           [2001:db8:113::2]:80/tcp   a6 b6 masq
        2001:db8:98::7 [2001:db8:113::2]:80/tcp   drop
        out            203.0.113.3:80/tcp         a b masq
        out            203.0.113.4:80/tcp         drop
        node           203.0.113.4:80/tcp         a b masq
        203.0.113.4    203.0.113.4:80/tcp         a b masq     # the node by the load balancer's own address
        203.0.113.5    203.0.113.5:80/tcp         drop
        out            203.0.113.5:80/tcp         a
        198.51.101.7   203.0.113.5:80/tcp         drop
        pod            203.0.113.5:80/tcp         drop
        out            203.0.113.6:80/tcp         reject
        198.51.101.7   203.0.113.6:80/tcp         drop
        ",
    );
}

#[test]
fn rule_16_node_ports_answer_on_the_addresses_of_the_flag() {
    let two = "--node-ip=192.0.2.1,192.0.2.65,2001:db8:2::1,127.0.0.1";
    let web = || scene([exposed("web", 10, ""), here_and_there("web")]).flag(two);
    web().judges(
        "
        out   192.0.2.1:30010/tcp        a b masq
        out   192.0.2.65:30010/tcp       a b masq
        out   192.0.2.2:30010/tcp        pass         # another node's
        out   192.0.2.1:30011/tcp        pass
        out   192.0.2.1:30010/udp        pass
        out   192.0.2.1:80/tcp           pass
        node  127.0.0.1:30010/tcp        pass         # never on loopback
        out   10.96.0.10:30010/tcp       reject       # a nodePort is none of the cluster IP's ports
        out   203.0.113.10:30010/tcp     pass
        out6  [2001:db8:2::1]:30010/tcp  a6 b6 masq
        ",
    );
    web().flag("--nodeport-addresses=192.0.2.64/26").judges(
        "
        out   192.0.2.1:30010/tcp        pass
        out   192.0.2.65:30010/tcp       a b masq
        out6  [2001:db8:2::1]:30010/tcp  a6 b6 masq   # no network of this family: all
        ",
    );
    web().flag("--nodeport-addresses=primary").judges(
        "
        out   192.0.2.1:30010/tcp        a b masq
        out   192.0.2.65:30010/tcp       pass
        out6  [2001:db8:2::1]:30010/tcp  a6 b6 masq
        ",
    );
    let plain =
        "type: LoadBalancer, allocateLoadBalancerNodePorts: false, clusterIP: 10.96.0.9, externalIPs: [198.18.0.9]";
    scene([service("plain", plain), slice("plain", &["10.1.0.1"])]).judges(
        "
        out   192.0.2.1:30000/tcp        pass
        out   198.18.0.9:80/tcp          a masq
        ",
    );
}
