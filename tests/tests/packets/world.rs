//! A node for the real programs: their maps, Services in them, and the network that the kernel answers from.

use std::{
    collections::BTreeMap,
    fs::File,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
};

use aya::{
    Pod,
    maps::{HashMap, MapData},
};
use nix::sched::{CloneFlags, setns, unshare};
use svcproxy::{
    datapath::{
        Datapath, Sizes, entries,
        links::Hook,
        trial::{Action, Outcome, Trial},
    },
    model::{Model, NodePolicy, Service},
    plan::{Diff, Limits, MapContents, plan},
};
use svcproxy_common::{
    Fate, Reason,
    abi::{Address, Delivery, FlowEntry, FlowKey, FlowState, Interface, Metadata, XDP_INTERFACES, XdpInterface},
};

use crate::{
    model::{Frame, MAC_NODE},
    network::{self, ifindex},
};

const SIZES: Sizes = Sizes {
    flows: 32_768,
    pending: 32_768,
    affinity: 4_096,
    sockets: 64,
    services: 512,
    backends: 2_048,
    slots: 65_536,
};

static WORLD: LazyLock<Mutex<World>> = LazyLock::new(|| Mutex::new(World::new()));

/// The programs, and where they are.
pub(crate) struct World {
    pub(crate) datapath: Datapath,
    pub(crate) veth0: u32,
    pub(crate) veth1: u32,
    namespace: File,
}

/// The one world, empty, and the calling thread in its namespace.
pub(crate) fn world() -> MutexGuard<'static, World> {
    let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    world.enter();
    world.reset();
    world
}

impl World {
    /// A world apart from [`world`]'s, for a thread of its own.
    pub(crate) fn new() -> Self {
        let build = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("packet tests make a network namespace: run them as root");
            network::build();
            let namespace = File::open("/proc/thread-self/ns/net").unwrap();
            let mut datapath = Datapath::load(None, &SIZES).unwrap_or_else(|error| panic!("{error}"));
            datapath.maps.keep_no_fragments().unwrap();
            // A test run may name a veth as the frame's interface only while that runs XDP.
            for name in ["veth0", "veth1"] {
                datapath.xdp().unwrap().attach(name, Default::default()).unwrap();
            }
            let [veth0, veth1] = ["veth0", "veth1"].map(ifindex);
            let interface = XdpInterface {
                ifindex: veth0,
                mac: MAC_NODE,
                metadata: Metadata::YES,
                is_port: false,
            };
            datapath
                .xdp_interfaces
                .set(veth0 % XDP_INTERFACES, interface, 0)
                .unwrap();
            Self {
                datapath,
                veth0,
                veth1,
                namespace,
            }
        };
        thread::spawn(build)
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Puts the calling thread into its namespace.
    pub(crate) fn enter(&self) {
        setns(&self.namespace, CloneFlags::CLONE_NEWNET).expect("cannot enter the namespace");
    }

    fn reset(&mut self) {
        self.serve(&[]);
        self.forget();
        self.deliver(None, None);
    }

    /// Empties the tables of connections and clients.
    pub(crate) fn forget(&mut self) {
        fn clear<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>) {
            for (key, _) in entries(map, "").unwrap() {
                map.remove(&key).unwrap();
            }
        }
        let maps = &mut self.datapath.maps;
        clear(&mut maps.v4.flows);
        clear(&mut maps.v4.pending);
        clear(&mut maps.v4.affinity);
        clear(&mut maps.v4.fragments);
        clear(&mut maps.v6.flows);
        clear(&mut maps.v6.pending);
        clear(&mut maps.v6.affinity);
        clear(&mut maps.v6.fragments);
    }

    /// Tells all connections that their endpoints are out of reach, as the daemon does.
    pub(crate) fn lose_endpoints(&mut self) {
        fn lose<A: Address>(map: &mut HashMap<MapData, FlowKey<A>, FlowEntry<A>>)
        where
            FlowKey<A>: Pod,
            FlowEntry<A>: Pod,
        {
            for (key, mut entry) in requests(map) {
                (entry.delivery, entry.ifindex) = (Delivery::RESET, 0);
                map.insert(key, entry, 0).unwrap();
            }
        }
        lose(&mut self.datapath.maps.v4.flows);
        lose(&mut self.datapath.maps.v6.flows);
    }

    /// States of all connections that are established or were.
    pub(crate) fn states(&self) -> Vec<FlowState> {
        let (v4, v6) = (&self.datapath.maps.v4.flows, &self.datapath.maps.v6.flows);
        let v4 = requests(v4).into_iter().map(|(_, entry)| entry.state);
        v4.chain(requests(v6).into_iter().map(|(_, entry)| entry.state))
            .collect()
    }

    /// Makes the maps hold these Services, as the daemon does.
    pub(crate) fn serve(&mut self, services: &[Service]) -> MapContents {
        let model = Model {
            services: services.iter().cloned().map(Into::into).collect(),
            ..Model::default()
        };
        let policy = NodePolicy {
            service_ranges: Vec::new(),
            ..NodePolicy::default()
        };
        self.apply(&model, &policy)
    }

    /// The same for any model and flags.
    pub(crate) fn apply(&mut self, model: &Model, policy: &NodePolicy) -> MapContents {
        let limits = Limits {
            backend_slots: SIZES.slots,
        };
        let maps = &mut self.datapath.maps;
        let current = maps.contents().unwrap();
        let wanted = plan(model, policy, &current, &limits).unwrap();
        maps.apply(&Diff::between(&current, &wanted)).unwrap();
        assert_eq!(maps.contents().unwrap(), wanted);
        wanted
    }

    /// Says what may be handed to veth0 and veth1 without the kernel's routing.
    pub(crate) fn deliver(&mut self, veth0: Option<Delivery>, veth1: Option<Delivery>) {
        let interfaces = &mut self.datapath.maps.interfaces;
        for (index, delivery) in [(self.veth0, veth0), (self.veth1, veth1)] {
            match delivery {
                Some(delivery) => interfaces.insert(index, Interface::new(delivery), 0).unwrap(),
                None => drop(interfaces.remove(&index)),
            }
        }
    }

    /// A frame that comes in by veth0, at a hook.
    pub(crate) fn run(&mut self, hook: Hook, frame: &Frame) -> Left {
        Left::new(self.run_bytes(hook, &frame.bytes(), frame.segment_payload))
    }

    /// The same for any bytes, with what the kernel says of it.
    pub(crate) fn run_bytes(&mut self, hook: Hook, frame: &[u8], gso_size: u32) -> Outcome {
        let trial = Trial {
            hook,
            frame,
            ifindex: self.veth0,
            gso_size,
            repeat: 1,
        };
        self.datapath
            .try_out(&trial)
            .unwrap_or_else(|error| panic!("{error}: {} bytes", frame.len()))
    }

    /// Runs a frame and says for which reason it was counted. A frame neither translated nor answered must be unchanged.
    pub(crate) fn counted(&mut self, hook: Hook, frame: &[u8]) -> (Reason, Left) {
        let before = self.reasons();
        let left = Left::new(self.run_bytes(hook, frame, 0));
        let after = self.reasons();
        let mut grown: Vec<_> = after
            .into_iter()
            .filter(|(reason, count)| before[reason] != *count)
            .collect();
        // A packet that is deferred is counted again where it goes on.
        if grown.len() > 1 {
            grown.retain(|(reason, _)| *reason != Reason::NotPlain);
        }
        let [(reason, count)] = grown[..] else {
            panic!("{grown:?} were counted");
        };
        assert_eq!(count, before[&reason] + 1);
        match reason.fate() {
            _ if reason == Reason::Translated => {}
            Fate::Reject => assert_eq!(left.action, Action::Redirect, "{reason:?} was not answered"),
            fate => {
                assert_eq!(left.action == Action::Drop, fate == Fate::Drop, "{reason:?}");
                assert_eq!(left.frame, frame, "{reason:?} changed the frame");
                let mark = match fate {
                    Fate::Defer => left_to_tc(0, Delivery::ROUTING),
                    _ => Vec::new(),
                };
                assert_eq!(left.mark, mark, "{reason:?}");
            }
        }
        (reason, left)
    }

    /// Packets by reason.
    pub(crate) fn reasons(&self) -> BTreeMap<Reason, u64> {
        self.datapath.maps.reasons().unwrap().into_iter().collect()
    }
}

/// The original directions of all connections in a table.
fn requests<A: Address>(map: &HashMap<MapData, FlowKey<A>, FlowEntry<A>>) -> Vec<(FlowKey<A>, FlowEntry<A>)>
where
    FlowKey<A>: Pod,
    FlowEntry<A>: Pod,
{
    let all = entries(map, "flows").unwrap().into_iter();
    all.filter(|(_, entry)| !entry.state.is_reply()).collect()
}

/// What a program leaves of a frame.
pub(crate) struct Left {
    pub(crate) action: Action,
    /// What XDP says to tc: [`left_to_tc`], or nothing.
    pub(crate) mark: Vec<u8>,
    pub(crate) frame: Vec<u8>,
}

impl Left {
    /// A test run puts the metadata of a frame before it.
    fn new(Outcome { action, frame, .. }: Outcome) -> Self {
        let length = if frame.starts_with(&MARKED) {
            left_to_tc(0, Delivery::ROUTING).len()
        } else {
            0
        };
        let (mark, frame) = frame.split_at(length);
        Self {
            action,
            mark: mark.to_vec(),
            frame: frame.to_vec(),
        }
    }
}

/// What a mark begins with.
const MARKED: [u8; 4] = 0x7376_6370_u32.to_ne_bytes();

/// The mark of a frame that XDP leaves to tc: to look at, or to send by an interface.
pub(crate) fn left_to_tc(ifindex: u32, delivery: Delivery) -> Vec<u8> {
    [MARKED, ifindex.to_ne_bytes(), (delivery as u32).to_ne_bytes()].concat()
}

/// The fewest bytes of a frame with which the kernel runs a program (`bpf_prog_test_run_skb`, net/bpf/test_run.c: an skb
/// has a whole IP header).
pub(crate) fn least(hook: Hook, frame: &[u8]) -> usize {
    match (hook, [frame[12], frame[13]]) {
        (Hook::Xdp, _) => 14,
        (_, [0x08, 0x00]) => 14 + 20,
        (_, [0x86, 0xdd]) => 14 + 40,
        _ => 15,
    }
}
