//! The embedded kernel programs: loaded with sizes and constants of this run, over maps that may be pinned already.

use std::{path::Path, thread};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, MapInfo},
    programs::{CgroupSockAddr, Program, ProgramError, SchedClassifier, Xdp},
};
use svcproxy_common::abi::{InterfaceAddresses, SlotPair, XdpInterface};

use super::{
    DatapathError, Maps,
    clock::Clock,
    features::Features,
    links::{Hook, TcAttach},
    sockets::{self, SocketHook},
};

/// The object file that `build.rs` made of svcproxy-ebpf.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/svcproxy.bpf.o"));

/// Sizes of the maps, in entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// `flows_v4` and `flows_v6`, each; two entries a connection.
    pub flows: u32,
    /// `pending_v4` and `pending_v6`, each; two entries a connection.
    pub pending: u32,
    /// `affinity_v4` and `affinity_v6`, each; one entry a client and Service.
    pub affinity: u32,
    /// `sockets_v4` and `sockets_v6`, each; two entries a socket of this node and Service.
    pub sockets: u32,
    /// `services_v4` and `services_v6`, each.
    pub services: u32,
    /// `backends_v4` and `backends_v6`, each.
    pub backends: u32,
    /// `backend_slots`, two to an entry.
    pub slots: u32,
}

impl Sizes {
    /// Those of hardly any room.
    pub const LEAST: Self = Self {
        flows: 16,
        pending: 16,
        affinity: 16,
        sockets: 16,
        services: 16,
        backends: 16,
        slots: 16,
    };

    /// Sets the sizes of maps.
    pub(super) fn set(&self, loader: &mut EbpfLoader<'_>) {
        for name in Maps::NAMES {
            if let Some(size) = self.of(name) {
                loader.map_max_entries(name, size.div_ceil(Self::in_an_entry(name)));
            }
        }
    }

    /// How many of what is counted here are in one entry of a map.
    fn in_an_entry(name: &str) -> u32 {
        match name {
            "backend_slots" => size_of::<SlotPair>() as u32 / size_of::<u32>() as u32,
            _ => 1,
        }
    }

    fn of(&self, name: &str) -> Option<u32> {
        match name.trim_end_matches("_v4").trim_end_matches("_v6") {
            "flows" => Some(self.flows),
            "pending" => Some(self.pending),
            "affinity" => Some(self.affinity),
            "sockets" => Some(self.sockets),
            "services" => Some(self.services),
            "backends" => Some(self.backends),
            "backend_slots" => Some(self.slots),
            _ => None,
        }
    }

    /// The pinned maps whose size is another than this, with the size they have.
    pub fn kept(&self, pin_dir: &Path) -> Vec<(&'static str, u32)> {
        let kept = |name: &'static str| {
            let info = MapInfo::from_pin(pin_dir.join(name)).ok()?;
            let (wanted, in_an_entry) = (self.of(name)?, Self::in_an_entry(name));
            (info.max_entries() != wanted.div_ceil(in_an_entry))
                .then_some((name, info.max_entries().saturating_mul(in_an_entry)))
        };
        Maps::NAMES.into_iter().filter_map(kept).collect()
    }

    /// Kernel memory that the preallocated tables take, in bytes: an LRU element is 48 bytes of bookkeeping, key and
    /// value (`struct htab_elem`, kernel/bpf/hashtab.c), a bucket 16.
    pub fn memory(&self) -> u64 {
        let lru = |entries: u32, key: u64, value: u64| {
            u64::from(entries) * (48 + key + value.next_multiple_of(8)) + u64::from(entries).next_power_of_two() * 16
        };
        let flows = |entries| lru(entries, 16, 40) + lru(entries, 40, 64);
        flows(self.flows)
            + flows(self.pending)
            + lru(self.affinity, 16, 8)
            + lru(self.affinity, 24, 8)
            + lru(self.sockets, 24, 12)
            + lru(self.sockets, 32, 24)
            + u64::from(self.slots) * size_of::<u32>() as u64
    }
}

/// Loaded programs and their maps.
pub struct Datapath {
    pub(super) ebpf: Ebpf,
    /// What this kernel has.
    pub features: Features,
    /// How programs attach at tc.
    pub tc_attach: TcAttach,
    /// The programs' own, not pinned: the daemon makes it anew with them.
    pub(super) interface_addresses: HashMap<MapData, u32, InterfaceAddresses>,
    /// Likewise: the interfaces that run XDP, see [`XdpInterface`].
    pub xdp_interfaces: Array<MapData, XdpInterface>,
    /// The maps.
    pub maps: Maps,
}

impl Datapath {
    /// How many programs there are.
    pub const PROGRAMS: usize = Hook::ALL.len() + SocketHook::ALL.len() + Maps::SUCCESSORS.len() + 1;

    /// Whether a datapath is pinned in a directory.
    pub fn is_pinned(dir: &Path) -> bool {
        dir.join("layout").exists()
    }

    /// Loads the programs over the maps pinned in `pin_dir`, making those that are not there. Without a directory
    /// everything is private to this process and ends with it.
    ///
    /// Over the maps of an earlier run the programs of that run go on as they are: [`take_over`](Self::take_over)
    /// follows.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, or when the pinned maps are of another layout.
    pub fn load(pin_dir: Option<&Path>, sizes: &Sizes) -> Result<Self, DatapathError> {
        let is_ours = !pin_dir.is_some_and(Self::is_pinned);
        let mut datapath = Self::with_maps(pin_dir, sizes)?;
        datapath.load_programs()?;
        if is_ours {
            datapath.take_over()?;
        }
        Ok(datapath)
    }

    /// Has all programs, those of an earlier run too, go on to these successors.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn take_over(&mut self) -> Result<(), DatapathError> {
        Maps::SUCCESSORS
            .into_iter()
            .try_for_each(|program| self.announce_successor(program))
    }

    /// Loads all programs. The kernel takes some tenths of a second to verify them, and does so on as many processors as
    /// ask.
    fn load_programs(&mut self) -> Result<(), DatapathError> {
        let programs: Vec<_> = Hook::ALL
            .map(Hook::program)
            .into_iter()
            .chain(SocketHook::ALL.map(SocketHook::program))
            .chain(Maps::SUCCESSORS)
            .collect();
        thread::scope(|scope| {
            let loading: Vec<_> = self
                .ebpf
                .programs_mut()
                .filter_map(|(name, program)| Some((*programs.iter().find(|wanted| **wanted == name)?, program)))
                .map(|(name, program)| (name, scope.spawn(|| load(program))))
                .collect();
            loading.into_iter().try_for_each(|(program, loading)| {
                let loaded = loading.join().expect("it does not panic");
                loaded.map_err(|source| DatapathError::Program { program, source })
            })
        })
    }

    /// The program that takes incoming packets at tc, alone and in private maps.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub(super) fn load_tc_in(sizes: &Sizes) -> Result<Self, DatapathError> {
        let mut datapath = Self::with_maps(None, sizes)?;
        datapath.load_tc(Hook::TcIn.program())?;
        Ok(datapath)
    }

    /// The maps, and the programs not yet loaded.
    fn with_maps(pin_dir: Option<&Path>, sizes: &Sizes) -> Result<Self, DatapathError> {
        if let Some(dir) = pin_dir
            && Self::is_pinned(dir)
        {
            // Ends here when the layout is another's: nothing has been touched yet.
            Maps::pinned(dir)?;
        }
        let namespace = sockets::own_namespace()?;
        // One loader for both: a new one reads all types of the kernel, for some 50 ms.
        let mut loader = EbpfLoader::new();
        let clock = Clock::measure(&mut loader)?;
        loader
            .override_global("SECONDS_PER_JIFFY_32", &clock.seconds_per_jiffy_32, true)
            .override_global("JIFFIES_AT_ZERO", &clock.jiffies_at_zero, true)
            .override_global("NETNS_COOKIE", &namespace, true);
        sizes.set(&mut loader);
        if let Some(dir) = pin_dir {
            for name in Maps::NAMES {
                loader.map_pin_path(name, dir.join(name));
            }
        }
        let mut ebpf = loader.load(OBJECT)?;
        let maps = Maps::of_object(&mut ebpf, pin_dir)?;
        let tc_attach = TcAttach::probe();
        let addresses = ebpf.take_map("interface_addresses").expect("the object has this map");
        let interface_addresses = addresses
            .try_into()
            .map_err(DatapathError::map("interface_addresses"))?;
        let xdp_interfaces = ebpf.take_map("xdp_interfaces").expect("the object has this map");
        let xdp_interfaces = xdp_interfaces
            .try_into()
            .map_err(DatapathError::map("xdp_interfaces"))?;
        Ok(Self {
            ebpf,
            features: Features {
                tcx: tc_attach == TcAttach::Tcx,
                fib_source: clock.fib_source,
            },
            tc_attach,
            interface_addresses,
            xdp_interfaces,
            maps,
        })
    }

    /// Loads a tc program by name.
    fn load_tc(&mut self, program: &'static str) -> Result<(), DatapathError> {
        self.tc(program)
            .and_then(SchedClassifier::load)
            .map_err(|source| DatapathError::Program { program, source })
    }

    /// Loads a program that others go on to, and tells them.
    pub(super) fn load_successor(&mut self, program: &'static str) -> Result<(), DatapathError> {
        self.load_tc(program)?;
        self.announce_successor(program)
    }

    fn announce_successor(&mut self, program: &'static str) -> Result<(), DatapathError> {
        let index = Maps::SUCCESSORS.iter().position(|name| *name == program);
        let index = index.expect("one of them") as u32;
        let loaded: Result<&SchedClassifier, _> = self.ebpf.program(program).expect("the object has it").try_into();
        let fd = loaded.and_then(SchedClassifier::fd);
        let fd = fd.map_err(|source| DatapathError::Program { program, source })?;
        let successors = &mut self.maps.successors;
        successors.set(index, fd, 0).map_err(DatapathError::map("programs"))
    }

    /// The XDP program.
    pub fn xdp(&mut self) -> Result<&mut Xdp, ProgramError> {
        self.ebpf
            .program_mut("svcproxy_xdp")
            .expect("the object has this program")
            .try_into()
    }

    /// The program of a socket hook.
    pub(super) fn socket_program(&mut self, hook: SocketHook) -> Result<&mut CgroupSockAddr, ProgramError> {
        self.ebpf
            .program_mut(hook.program())
            .expect("the object has this program")
            .try_into()
    }

    /// A tc program by name.
    pub fn tc(&mut self, name: &str) -> Result<&mut SchedClassifier, ProgramError> {
        self.ebpf
            .program_mut(name)
            .expect("the object has this program")
            .try_into()
    }
}

fn load(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}
