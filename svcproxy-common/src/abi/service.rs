//! What the daemon writes and the programs read: Services, their endpoints, and who their clients are.

use super::{Address, Protocol};

/// Key of `services_v4` and `services_v6`: one address and port that clients connect to.
///
/// Port 0 with [`Protocol::ANY`] stands for all ports of a cluster IP that have no entry of their own.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceKey<A> {
    /// A cluster IP, a node's address (nodePort), an external IP or a load balancer's IP.
    pub address: A,
    /// The ServicePort's `port`, or its `nodePort`.
    pub port: u32,
    /// The ServicePort's `protocol`.
    pub protocol: Protocol,
}

/// Value of `services_v4` and `services_v6`: where new connections to this address go.
///
/// All policy that depends on who the client is has been worked out by the control plane for the three kinds of
/// client there are: outside the cluster, a pod of it, this node (see [`Network`]).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ServiceEntry {
    /// The Service, the same for all its ports and both families; the scope of client affinity and source ranges.
    pub service: u32,
    /// `sessionAffinityConfig.clientIP.timeoutSeconds`; 0 for `sessionAffinity: None`.
    pub affinity_seconds: u32,
    /// What clients outside the cluster choose from.
    pub outside: EndpointSet,
    /// What pods and this node choose from: under `externalTrafficPolicy: Local` not the same.
    pub inside: EndpointSet,
    /// Which of the Service's addresses this is.
    pub way: Way,
    /// Whether the client must be in `loadBalancerSourceRanges` (the `source_ranges_` maps), else it is dropped.
    pub filtered: bool,
    /// Whether clients outside the cluster are masqueraded.
    pub masquerade_outside: bool,
    /// Whether pods are. (One that reaches itself always is.)
    pub masquerade_pods: bool,
    /// Whether this node is.
    pub masquerade_node: bool,
    /// Always 0.
    pub reserved: [u8; 3],
}

/// The endpoints that a new connection chooses from.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EndpointSet {
    /// The set: the first half of a [`BackendKey`].
    pub number: u32,
    /// First slot of its region in `backend_slots`, see [`SlotPair`].
    pub slot_offset: u32,
    /// Length of that region; 0 when the set has no endpoint.
    pub slot_count: u32,
    /// What becomes of the connection then.
    pub empty: Empty,
}

/// Value of `backend_slots`: the endpoints in the slots of twice its index and the next. The kernel gives each entry of
/// an array eight bytes, and a number takes four.
pub type SlotPair = [u32; 2];

/// What becomes of a connection for which there is no endpoint.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(clippy::upper_case_acronyms, reason = "what bpftool prints")]
pub enum Empty {
    /// ICMP port unreachable: there is none anywhere.
    REJECT = 0,
    /// Silence: there are some, but a `Local` policy leaves them out.
    DROP = 1,
}

/// Which of a Service's addresses an entry stands for.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "what bpftool prints")]
pub enum Way {
    /// `spec.clusterIPs`
    CLUSTER_IP = 0,
    /// A node's address and `spec.ports[].nodePort`.
    NODE_PORT = 1,
    /// `spec.externalIPs`
    EXTERNAL_IP = 2,
    /// `status.loadBalancer.ingress[].ip` or `spec.loadBalancerIP`.
    LOAD_BALANCER = 3,
    /// A cluster IP, at a port that no ServicePort has.
    OTHER_PORT = 4,
}

/// Key of the LPM tries `networks_v4` and `networks_v6`, after the prefix length.
pub type NetworkAddress<A> = <A as Address>::Octets;

/// Value of `networks_v4` and `networks_v6`: what an address belongs to. Addresses in none of them are outside the
/// cluster.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(clippy::upper_case_acronyms, reason = "what bpftool prints")]
pub enum Network {
    /// A real network inside a wider one listed here: not ours.
    OUTSIDE = 0,
    /// `--cluster-cidr`: pods.
    PODS = 1,
    /// An address of this node.
    NODE = 2,
    /// `--service-cluster-ip-range`: what has no Service is dropped.
    SERVICES = 3,
}

/// Key of the LPM tries `source_ranges_v4` and `source_ranges_v6`, after the prefix length, which counts both fields.
/// That a client is found is what "in `loadBalancerSourceRanges`" means; the value is always 1.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SourceRange<A: Address> {
    /// The Service.
    pub service: u32,
    /// The client, or the network it must be in.
    pub client: A::Octets,
}

/// Value of `config_v4` and `config_v6`, at index 0.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Config<A> {
    /// The node's address of this family, to masquerade behind where the kernel's routing names none; all zeros when
    /// there is none.
    pub node_address: A,
    /// First of the ports that masqueraded connections get when they cannot keep the client's.
    pub masquerade_port_first: u32,
    /// Number of those ports.
    pub masquerade_port_count: u32,
    /// The smallest network that all service ranges are in: a packet to an address outside it needs no answer of ours.
    pub service_network: A,
    /// Its netmask. Without a range it is that of a network which is one address, 0.0.0.0 or ::.
    pub service_mask: A,
    /// Whether the way to an address depends on the address alone: no rule (`ip rule`) asks for more, no route is for
    /// some sources only or has several next hops. One answer of the kernel's routing then does for all.
    pub routes_by_destination: bool,
    /// Always 0.
    pub reserved: [u8; 7],
}

/// Key of `backends_v4` and `backends_v6`. That it is present is what "endpoint is in the set" means.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BackendKey {
    /// The set, from [`EndpointSet::number`].
    pub endpoint_set: u32,
    /// The endpoint, from `backend_slots` or [`AffinityEntry::endpoint`]. One endpoint address has one number in all
    /// sets of a Service, so that affinity holds across its ports.
    pub endpoint: u32,
}

/// Value of `backends_v4` and `backends_v6`: where an endpoint listens.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Backend<A> {
    /// The endpoint's address.
    pub address: A,
    /// The port it listens on.
    pub port: u32,
    /// Its protocol, that of the ServicePort.
    pub protocol: Protocol,
}
