//! Runs packets through the decision code, and looks into the tables afterwards.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use svcproxy_common::{
    Fate, Reason, Table, Verdict,
    abi::{Address, AffinityEntry, Config, Delivery, FlowEntry, FlowKey, FlowState, Network, Protocol, V4Addr, V6Addr},
    flow::{Live, NextHop},
    process,
};

use super::{
    Frame, HostTables, Side, frame, judge,
    packet::{Hook, HostPacket, Xdp},
};

/// A node with its tables, clock and routes.
pub struct Node {
    pub tables: HostTables,
    pub now: Cell<u32>,
    /// Packets by reason.
    pub reasons: Cell<[u64; Reason::ALL.len()]>,
    /// Whether packets carry a VLAN tag that is not in the frame.
    pub tagged: Cell<bool>,
    /// Whether addresses without a route are this node's, which the kernel does not tell apart.
    pub delivers_the_rest: Cell<bool>,
    /// Ports that connections of the node's own processes have.
    pub own_ports: RefCell<HashSet<u16>>,
    /// Routes to networks: family, octets that addresses begin with.
    pub(super) networks: RefCell<Vec<(u8, Vec<u8>, HostRoute)>>,
    pub(super) routes: RefCell<HashMap<(u8, [u32; 4]), HostRoute>>,
}

/// The kernel's answer about an address.
#[derive(Clone, Copy)]
pub(super) struct HostRoute {
    pub(super) next_hop: NextHop,
    /// The node's address on the way there.
    pub(super) source: Option<[u32; 4]>,
}

/// What became of a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub verdict: Result<Verdict, Reason>,
    pub bytes: Vec<u8>,
    /// The MTU that the sender of a packet too big is told.
    pub mtu: u16,
}

impl Outcome {
    /// Source of the packet as it left.
    pub fn src(&self) -> SocketAddr {
        frame::sockets(&self.bytes).0
    }

    /// Destination of the packet as it left.
    pub fn dst(&self) -> SocketAddr {
        frame::sockets(&self.bytes).1
    }
}

impl Node {
    pub fn new() -> Self {
        Self {
            tables: HostTables::new(),
            now: Cell::new(1_000_000),
            reasons: Cell::new([0; Reason::ALL.len()]),
            tagged: Cell::new(false),
            delivers_the_rest: Cell::new(false),
            own_ports: RefCell::default(),
            networks: RefCell::default(),
            routes: RefCell::default(),
        }
    }

    /// Lets seconds pass.
    pub fn wait(&self, seconds: u32) {
        self.now.set(self.now.get() + seconds);
    }

    /// Makes packets for `ip` go out of an interface without the kernel's routing.
    pub fn set_next_hop(&self, ip: IpAddr, next_hop: NextHop) {
        self.set_route(ip, next_hop, None);
    }

    /// The same, where the interface has the address `source`.
    pub fn set_route(&self, ip: IpAddr, next_hop: NextHop, source: Option<IpAddr>) {
        let words = |ip| match ip {
            IpAddr::V4(_) => (V4Addr::AF, V4Addr::from_ip(ip).fib()),
            IpAddr::V6(_) => (V6Addr::AF, V6Addr::from_ip(ip).fib()),
        };
        let source = source.map(|ip| words(ip).1);
        self.routes
            .borrow_mut()
            .insert(words(ip), HostRoute { next_hop, source });
    }

    /// The same, without an address, for all that begin with these octets and have no route of their own.
    pub fn set_route_to<A: Address>(&self, octets: &[u8], next_hop: NextHop) {
        let route = HostRoute { next_hop, source: None };
        self.networks.borrow_mut().push((A::AF, octets.to_vec(), route));
    }

    pub(super) fn route<A: Address>(&self, dst: A) -> Option<HostRoute> {
        let known = self.routes.borrow().get(&(A::AF, dst.fib())).copied();
        known.or_else(|| {
            let octets: Vec<u8> = dst.fib().iter().flat_map(|word| word.to_ne_bytes()).collect();
            let size = if A::AF == V4Addr::AF { 4 } else { 16 };
            let networks = self.networks.borrow();
            let mut networks = networks.iter();
            let found = networks.find(|(family, network, _)| *family == A::AF && octets[..size].starts_with(network));
            found.map(|(_, _, route)| *route)
        })
    }

    /// Says what the addresses of a network belong to: `10.244.0.0/16`.
    pub fn set_network(&self, network: &str, what: Network) {
        let (ip, length) = prefix(network);
        match ip {
            IpAddr::V4(_) => self
                .tables
                .v4
                .networks
                .borrow_mut()
                .push((V4Addr::from_ip(ip).octets, length, what)),
            IpAddr::V6(_) => self
                .tables
                .v6
                .networks
                .borrow_mut()
                .push((V6Addr::from_ip(ip).octets, length, what)),
        }
    }

    /// Admits the clients of a network to a Service's load balancer.
    pub fn set_source_range(&self, service: u32, network: &str) {
        let (ip, length) = prefix(network);
        match ip {
            IpAddr::V4(_) => {
                let mut ranges = self.tables.v4.source_ranges.borrow_mut();
                ranges.push((service, V4Addr::from_ip(ip).octets, length));
            }
            IpAddr::V6(_) => {
                let mut ranges = self.tables.v6.source_ranges.borrow_mut();
                ranges.push((service, V6Addr::from_ip(ip).octets, length));
            }
        }
    }

    /// The address and the ports to masquerade with.
    pub fn set_config(&self, ip: IpAddr, first: u16, count: u32) {
        fn put<A: Side>(node: &Node, node_address: A, first: u16, count: u32) {
            let config = Config {
                node_address,
                masquerade_port_first: first.into(),
                masquerade_port_count: count,
                // All of them: what a packet is spared in the kernel is looked up here.
                service_network: A::UNSPECIFIED,
                service_mask: A::UNSPECIFIED,
                routes_by_destination: false,
                reserved: [0; 7],
            };
            A::of(&node.tables).config.insert((), config);
        }
        match ip {
            IpAddr::V4(_) => put(self, V4Addr::from_ip(ip), first, count),
            IpAddr::V6(_) => put(self, V6Addr::from_ip(ip), first, count),
        }
    }

    /// A packet that arrives, at XDP first. Judges it when it was changed.
    pub fn run(&self, frame: &Frame) -> Outcome {
        self.run_at::<Xdp>(frame)
    }

    /// The same for any bytes, without a judge.
    pub fn arrive(&self, bytes: &[u8]) -> Outcome {
        self.run_bytes::<Xdp>(bytes, 0)
    }

    /// A packet at a hook.
    pub fn run_at<H: Hook>(&self, frame: &Frame) -> Outcome {
        let outcome = self.run_bytes::<H>(&frame.bytes(), frame.segment_payload);
        if outcome.verdict.is_ok() {
            judge::assert_valid(&outcome.bytes);
        }
        outcome
    }

    /// A frame of any bytes at a hook, and where that defers it at the next. What is not translated must be unchanged.
    pub fn run_bytes<H: Hook>(&self, bytes: &[u8], segment_payload: u32) -> Outcome {
        match self.run_once::<H>(bytes, segment_payload) {
            Outcome {
                verdict: Err(reason), ..
            } if reason.fate() == Fate::Defer => self.run_once::<H::Any>(bytes, segment_payload),
            outcome => outcome,
        }
    }

    /// The same at one hook alone.
    pub fn run_once<H: Hook>(&self, bytes: &[u8], segment_payload: u32) -> Outcome {
        let packet = HostPacket::<H>::new(bytes, segment_payload, self);
        let verdict = match process(&packet, &self.tables) {
            Err(reason) if reason.fate() == Fate::Reject && !H::ANSWERS => Err(Reason::NotPlain),
            verdict => verdict,
        };
        let reason = verdict.err().unwrap_or(Reason::Translated);
        let mut counts = self.reasons.get();
        counts[reason as usize] += 1;
        self.reasons.set(counts);
        let outcome = Outcome {
            verdict,
            bytes: packet.bytes(),
            mtu: packet.mtu(),
        };
        if reason != Reason::Translated {
            assert_eq!(outcome.bytes, bytes, "{verdict:?} changed the packet");
        }
        outcome
    }

    /// A packet that must be translated; where to.
    pub fn forward(&self, frame: &Frame) -> SocketAddr {
        let outcome = self.run(frame);
        assert!(outcome.verdict.is_ok(), "{:?} for {frame:?}", outcome.verdict);
        outcome.dst()
    }

    /// Where the connection's entry of this direction is, and its state.
    pub fn flow(&self, protocol: Protocol, src: SocketAddr, dst: SocketAddr) -> Option<(Table, FlowState)> {
        match src.ip() {
            IpAddr::V4(_) => self.flow_of::<V4Addr>(protocol, src, dst),
            IpAddr::V6(_) => self.flow_of::<V6Addr>(protocol, src, dst),
        }
    }

    fn flow_of<A: Side>(&self, protocol: Protocol, src: SocketAddr, dst: SocketAddr) -> Option<(Table, FlowState)> {
        let key = flow_key::<A>(protocol, src, dst);
        let entry = |table| Some((table, A::of(&self.tables).table(table).get(&key)?.state()));
        entry(Table::Flows).or_else(|| entry(Table::Pending))
    }

    /// Takes one direction out of both tables, as the LRU does.
    pub fn evict(&self, protocol: Protocol, src: SocketAddr, dst: SocketAddr) {
        fn of<A: Side>(node: &Node, key: &FlowKey<A>) -> bool {
            let maps = A::of(&node.tables);
            maps.flows.remove(key) | maps.pending.remove(key)
        }
        let evicted = match src.ip() {
            IpAddr::V4(_) => of(self, &flow_key::<V4Addr>(protocol, src, dst)),
            IpAddr::V6(_) => of(self, &flow_key::<V6Addr>(protocol, src, dst)),
        };
        assert!(evicted, "no entry for {src} → {dst}");
    }

    /// Tells a direction's entry that its endpoint is out of reach, as the daemon does.
    pub fn lose(&self, protocol: Protocol, src: SocketAddr, dst: SocketAddr) {
        fn of<A: Side>(node: &Node, key: &FlowKey<A>) {
            let tables = A::of(&node.tables);
            let entry = tables.flows.get(key).or_else(|| tables.pending.get(key));
            let entry = entry.expect("an entry to lose");
            entry.set_ifindex(0);
            entry.set_delivery(Delivery::RESET);
        }
        match src.ip() {
            IpAddr::V4(_) => of(self, &flow_key::<V4Addr>(protocol, src, dst)),
            IpAddr::V6(_) => of(self, &flow_key::<V6Addr>(protocol, src, dst)),
        }
    }

    /// Numbers of entries of both families in `flows` and in `pending`.
    pub fn entries(&self) -> [usize; 2] {
        let (v4, v6) = (&self.tables.v4, &self.tables.v6);
        [v4.flows.len() + v6.flows.len(), v4.pending.len() + v6.pending.len()]
    }
}

/// The key of a packet's direction.
pub fn flow_key<A: Side>(protocol: Protocol, src: SocketAddr, dst: SocketAddr) -> FlowKey<A> {
    FlowKey {
        src: A::from_ip(src.ip()),
        dst: A::from_ip(dst.ip()),
        src_port: src.port(),
        dst_port: dst.port(),
        protocol,
    }
}

/// A copy of an entry.
pub fn snapshot<A: Address>(entry: &Live<FlowEntry<A>>) -> FlowEntry<A> {
    // SAFETY: the entry is leaked and no other thread has it.
    unsafe { entry.as_ptr().read() }
}

/// A next hop on an interface, by XDP.
pub fn next_hop(ifindex: u32, mtu: u16, delivery: Delivery) -> NextHop {
    NextHop {
        delivery,
        ifindex,
        mtu,
        dst_mac: [2, 0, 0, 0, 9, 1],
        src_mac: [2, 0, 0, 0, 9, 2],
    }
}

/// A copy of what a client was given.
pub fn live_affinity(entry: &Live<AffinityEntry>) -> AffinityEntry {
    AffinityEntry {
        endpoint: entry.endpoint(),
        last_seen: entry.last_seen(),
    }
}

/// `10.244.0.0/16`
fn prefix(network: &str) -> (IpAddr, u32) {
    let (ip, length) = network.split_once('/').unwrap();
    (ip.parse().unwrap(), length.parse().unwrap())
}
