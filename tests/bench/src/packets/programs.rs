//! The bench's own programs, loaded, and how packets are run through those under test.

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, MapData, ProgramArray},
    programs::{ProgramFd, SchedClassifier, TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode},
};
use svcproxy_common::abi::{FlowEntry, FlowKey, V4Addr, V6Addr};

use super::{
    ip::{Floor, Ip},
    placement::{Placed, Target, placements_of},
};

#[path = "../../ebpf/src/control.rs"]
mod control;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench.bpf.o"));

/// 16-bit words of Ethernet and IPv4 headers.
const HEADERS: usize = 17;

/// A kind of program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Xdp,
    Tc,
}

impl Hook {
    /// `xdp` or `tc`
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Tc => "tc",
        }
    }
}

/// Tuples in the generator's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuples {
    first: u32,
    /// A power of two.
    pub(crate) count: u32,
}

impl Tuples {
    /// The first `count` of them.
    pub(crate) fn take(self, count: u32) -> Self {
        assert!(count.is_power_of_two() && count <= self.count);
        Self { count, ..self }
    }
}

/// Generators and floors, and their tables.
pub(crate) struct Bench {
    ebpf: Ebpf,
    control: Array<MapData, [u32; control::WORDS]>,
    headers: Array<MapData, [u16; HEADERS]>,
    pub(crate) tuples_v4: Array<MapData, FlowKey<V4Addr>>,
    pub(crate) tuples_v6: Array<MapData, FlowKey<V6Addr>>,
    pub(crate) floor_v4: Floor<V4Addr>,
    pub(crate) floor_v6: Floor<V6Addr>,
    xdp_programs: ProgramArray<MapData>,
    tc_programs: ProgramArray<MapData>,
    ifindex: u32,
    /// How many programs there are.
    programs: u32,
    /// Tuples in use, for each family.
    placed: [u32; 2],
}

/// What runs through a program took, and what the last one returned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// Of one, on average, generator included.
    pub(crate) nanoseconds: f64,
    pub(crate) verdict: i32,
}

impl Bench {
    /// Loads everything, with room for so many tuples and flows. `pending` is the size of the table for new connections.
    pub(crate) fn load(ifindex: u32, tuples: u32, flows: u32, pending: u32) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        for family in ["v4", "v6"] {
            for (table, entries) in [("tuples", tuples), ("floor", flows), ("fresh", pending)] {
                loader.map_max_entries(&*format!("{table}_{family}").leak(), entries);
            }
        }
        let mut ebpf = loader.load(OBJECT).context("cannot load the bench's programs")?;
        let mut map = |name: &str| {
            ebpf.take_map(name)
                .with_context(|| format!("the object has no map {name}"))
        };
        let bench = Self {
            control: Array::try_from(map("control")?)?,
            headers: Array::try_from(map("headers")?)?,
            tuples_v4: Array::try_from(map("tuples_v4")?)?,
            tuples_v6: Array::try_from(map("tuples_v6")?)?,
            floor_v4: HashMap::try_from(map("floor_v4")?)?,
            floor_v6: HashMap::try_from(map("floor_v6")?)?,
            xdp_programs: ProgramArray::try_from(map("xdp_programs")?)?,
            tc_programs: ProgramArray::try_from(map("tc_programs")?)?,
            ebpf,
            ifindex,
            programs: 0,
            placed: [0; 2],
        };
        bench.load_generators()
    }

    fn load_generators(mut self) -> Result<Self> {
        for family in ["v4", "v6"] {
            self.xdp(&format!("generate_xdp_{family}"))?.load()?;
            self.tc(&format!("generate_tc_{family}"))?.load()?;
        }
        Ok(self)
    }

    /// Attaches a program to an interface. A test run takes no other interface as a frame's own, and a program that is
    /// attached nowhere waits for all processors before and after each run (`bpf_prog_change_xdp`, net/bpf/test_run.c).
    pub(crate) fn attach(&mut self, program: &str, interface: &str) -> Result<()> {
        self.xdp(program)?.attach(interface, XdpMode::Driver)?;
        Ok(())
    }

    fn xdp(&mut self, name: &str) -> Result<&mut Xdp> {
        let program = self.ebpf.program_mut(name);
        Ok(program.with_context(|| format!("no program {name}"))?.try_into()?)
    }

    fn tc(&mut self, name: &str) -> Result<&mut SchedClassifier> {
        let program = self.ebpf.program_mut(name);
        Ok(program.with_context(|| format!("no program {name}"))?.try_into()?)
    }

    /// Loads a program of the bench, as often as it is measured.
    pub(crate) fn own(&mut self, hook: Hook, name: &str) -> Result<Target> {
        match hook {
            Hook::Xdp => {
                let placements = placements_of(self.xdp(name)?).with_context(|| name.to_owned())?;
                self.add(hook, &placements)
            }
            Hook::Tc => {
                let placements = placements_of(self.tc(name)?).with_context(|| name.to_owned())?;
                self.add(hook, &placements)
            }
        }
    }

    /// Makes a program one that packets can be run through, in each of its places.
    pub(crate) fn add(&mut self, hook: Hook, placements: &[ProgramFd]) -> Result<Target> {
        let first = self.programs;
        let programs = match hook {
            Hook::Xdp => &mut self.xdp_programs,
            Hook::Tc => &mut self.tc_programs,
        };
        for (index, fd) in (first..).zip(placements) {
            programs.set(index, fd, 0)?;
        }
        let placements = placements.len() as u32;
        self.programs += placements;
        Ok(Target {
            hook,
            first,
            placements,
        })
    }

    /// Makes room for tuples behind those that are there.
    pub(crate) fn place<A: Ip>(&mut self, keys: &[FlowKey<A>]) -> Result<Tuples>
    where
        FlowKey<A>: Pod,
    {
        let count = keys.len() as u32;
        let placed = &mut self.placed[usize::from(A::NAME == "v6")];
        let tuples = Tuples { first: *placed, count };
        *placed += count;
        self.replace(tuples, keys)?;
        Ok(tuples)
    }

    /// Writes other tuples in their place.
    pub(crate) fn replace<A: Ip>(&mut self, tuples: Tuples, keys: &[FlowKey<A>]) -> Result<()>
    where
        FlowKey<A>: Pod,
    {
        ensure!(
            keys.len().is_power_of_two() && keys.len() == tuples.count as usize,
            "{} tuples are not {}, a power of two",
            keys.len(),
            tuples.count
        );
        for (index, key) in (tuples.first..).zip(keys) {
            A::tuples(self).set(index, key, 0).context("no room for tuples")?;
        }
        Ok(())
    }

    /// Runs the packets of `tuples` from number `next` on through a program, each made from `frame`.
    pub(crate) fn run<A: Ip>(
        &mut self,
        Placed { hook, index: program }: Placed,
        tuples: Tuples,
        next: u32,
        frame: &[u8],
        repeat: u32,
    ) -> Result<Run> {
        let mut words = [0; control::WORDS];
        words[control::TARGET] = program;
        words[control::FIRST] = tuples.first;
        words[control::MASK] = tuples.count - 1;
        words[control::NEXT] = next;
        self.control.set(0, words, 0)?;
        self.test_run(hook, &format!("generate_{}_{}", hook.name(), A::NAME), frame, repeat)
    }

    /// Sends packets by an interface of the calling thread's namespace; `target` is `send_xdp`.
    pub(crate) fn send(
        &mut self,
        target: Target,
        tuples: Tuples,
        frame: &[u8],
        ifindex: u32,
        count: u32,
    ) -> Result<()> {
        let mut words = [0; control::WORDS];
        words[control::TARGET] = target.placed(0).index;
        words[control::FIRST] = tuples.first;
        words[control::MASK] = tuples.count - 1;
        words[control::INTERFACE] = ifindex;
        self.control.set(0, words, 0)?;
        let mut headers = [0; HEADERS];
        for (word, pair) in headers.iter_mut().zip(frame.chunks_exact(2)) {
            *word = u16::from_ne_bytes([pair[0], pair[1]]);
        }
        self.headers.set(0, headers, 0)?;
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.repeat = count;
        options.attrs = TestRunAttrs::new().xdp_live_frames(64);
        let sent = self.xdp("generate_xdp_v4")?.test_run(options);
        sent.map(drop).context("the kernel sends no live frames")
    }

    /// Runs a program of the bench that nothing has been put before.
    pub(crate) fn run_alone(&mut self, hook: Hook, name: &str, frame: &[u8], repeat: u32) -> Result<Run> {
        self.test_run(hook, name, frame, repeat)
    }

    fn test_run(&mut self, hook: Hook, name: &str, frame: &[u8], repeat: u32) -> Result<Run> {
        let mut options = TestRunOptions::new();
        let context = context(hook, frame.len() as u32, self.ifindex);
        options.data_in = Some(frame);
        options.ctx_in = Some(&context);
        options.repeat = repeat;
        let result = match hook {
            Hook::Xdp => self.xdp(name)?.test_run(options),
            Hook::Tc => self.tc(name)?.test_run(options),
        };
        let result = result.with_context(|| format!("the kernel does not run {name}"))?;
        Ok(Run {
            nanoseconds: result.duration.as_nanos() as f64,
            verdict: result.return_value.cast_signed(),
        })
    }
}

/// `struct xdp_md` or `struct __sk_buff` of a frame that has come in by an interface.
fn context(hook: Hook, length: u32, ifindex: u32) -> Vec<u8> {
    let mut words = match hook {
        Hook::Xdp => vec![0, length, 0, ifindex, 0, 0],
        Hook::Tc => vec![0; 45],
    };
    if hook == Hook::Tc {
        words[10] = ifindex;
    }
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// A flow of a floor: an entry of svcproxy's own under the same key.
pub(crate) fn copy_to_floor<A: Ip>(bench: &mut Bench, key: &FlowKey<A>, entry: &FlowEntry<A>) -> Result<()>
where
    FlowKey<A>: Pod,
    FlowEntry<A>: Pod,
{
    A::floor(bench)
        .insert(key, entry, 0)
        .context("no room in the floor's table")
}
