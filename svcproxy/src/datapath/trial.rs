//! A frame through the loaded programs without a wire: `BPF_PROG_TEST_RUN` (Documentation/bpf/bpf_prog_run.rst).
//!
//! The programs are the real ones, and so are the tables they read and write.

use std::time::Duration;

use aya::programs::{ProgramError, TestRun as _, TestRunOptions, TestRunResult};

use super::{Datapath, DatapathError, Maps, links::Hook};

/// A frame and where it is met.
#[derive(Debug, Clone, Copy)]
pub struct Trial<'a> {
    /// The program to run.
    pub hook: Hook,
    /// The frame, from its Ethernet header on; 14 bytes at least, or the kernel refuses to run.
    pub frame: &'a [u8],
    /// The interface it has come in by, or goes out by; 0 is the loopback.
    pub ifindex: u32,
    /// For tc: payload bytes of each packet this one will be cut into; 0 for a packet that will not be.
    pub gso_size: u32,
    /// How often to run. The frame is not restored in between.
    pub repeat: u32,
}

/// What the program says the kernel shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Go on with it.
    Pass,
    /// Drop it.
    Drop,
    /// Send it out of the interface it came in by.
    Transmit,
    /// Send it elsewhere.
    Redirect,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The verdict.
    pub action: Action,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
    /// Time of one run, on average.
    pub duration: Duration,
}

/// What the kernel made of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Its name.
    pub program: &'static str,
    /// Bytes of the program as the verifier left it.
    pub translated: u32,
    /// Bytes of machine code; 0 without the JIT.
    pub jited: u32,
    /// Instructions that the verifier walked to prove it; it walks a million at the most.
    pub verified: u32,
}

impl Datapath {
    /// What the kernel made of each program that takes packets.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell (before Linux 5.16).
    pub fn figures(&mut self) -> Result<Vec<Figures>, DatapathError> {
        let hooks = Hook::ALL.into_iter().map(Hook::program);
        let figures = |program: &'static str| {
            let info = match program == Hook::Xdp.program() {
                true => self.xdp().and_then(|program| program.info()),
                false => self.tc(program).and_then(|program| program.info()),
            };
            let info = info.map_err(|source| DatapathError::Program { program, source })?;
            Ok(Figures {
                program,
                translated: info.size_translated().unwrap_or(0),
                jited: info.size_jitted(),
                verified: info.verified_instruction_count().unwrap_or(0),
            })
        };
        hooks.chain(Maps::SUCCESSORS).map(figures).collect()
    }

    /// Runs a program on a frame.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to run it: a frame too short, no such interface.
    pub fn try_out(&mut self, trial: &Trial<'_>) -> Result<Outcome, DatapathError> {
        let Trial {
            hook,
            frame,
            ifindex,
            gso_size,
            repeat,
        } = *trial;
        let mut out = vec![0; frame.len() + 256];
        let run = |context: &[u8],
                   out: &mut [u8],
                   run: &dyn Fn(TestRunOptions<'_>) -> Result<TestRunResult, ProgramError>| {
            let mut options = TestRunOptions::new();
            options.data_in = Some(frame);
            options.data_out = Some(out);
            options.ctx_in = Some(context);
            options.repeat = repeat;
            run(options)
        };
        let result = match hook {
            Hook::Xdp => {
                let program = self.xdp();
                let context = xdp_context(frame.len() as u32, ifindex);
                program.and_then(|program| run(&context, &mut out, &|options| program.test_run(options)))
            }
            Hook::AfterXdp | Hook::TcIn | Hook::TcOut => {
                let program = self.tc(hook.tc().0);
                let context = tc_context(ifindex, gso_size);
                program.and_then(|program| run(&context, &mut out, &|options| program.test_run(options)))
            }
        };
        let result = result.map_err(|source| DatapathError::Program {
            program: hook.program(),
            source,
        })?;
        out.truncate(result.data_size_out as usize);
        Ok(Outcome {
            action: action(hook, result.return_value),
            frame: out,
            duration: result.duration,
        })
    }
}

/// `struct xdp_md`: the frame's bounds as offsets, then the interface; its receive queue is 0.
fn xdp_context(length: u32, ifindex: u32) -> Vec<u8> {
    [0, length, 0, ifindex, 0, 0]
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect()
}

/// `struct __sk_buff`: of its words the kernel takes `ifindex` (10), `gso_segs` (41) and `gso_size` (44).
fn tc_context(ifindex: u32, gso_size: u32) -> Vec<u8> {
    let mut words = [0_u32; 45];
    words[10] = ifindex;
    words[41] = u32::from(gso_size > 0) * 2;
    words[44] = gso_size;
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// The numbers of `enum xdp_action` and of `TC_ACT_*` (linux/bpf.h, linux/pkt_cls.h).
fn action(hook: Hook, value: u32) -> Action {
    match (hook, value as i32) {
        (Hook::Xdp, 2) | (Hook::AfterXdp | Hook::TcIn | Hook::TcOut, -1 | 0) => Action::Pass,
        (Hook::Xdp, 3) => Action::Transmit,
        (Hook::Xdp, 4) | (Hook::AfterXdp | Hook::TcIn | Hook::TcOut, 7) => Action::Redirect,
        _ => Action::Drop,
    }
}
