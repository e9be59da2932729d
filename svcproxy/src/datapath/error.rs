//! What can go wrong between the control plane and the kernel, each with the way out.

use std::{io, path::PathBuf};

use aya::{EbpfError, maps::MapError, pin::PinError, programs::ProgramError};
use thiserror::Error;

/// An error of the datapath.
#[derive(Debug, Error)]
pub enum DatapathError {
    /// The kernel programs did not load.
    #[error("the kernel did not accept svcproxy's programs or maps: {}", chain(.0))]
    Load(#[from] EbpfError),
    /// One of them did not.
    #[error("{program}: {}", refusal(.source))]
    Program {
        /// Name of the program.
        program: &'static str,
        /// What the kernel said.
        source: ProgramError,
    },
    /// A map could not be read or written.
    #[error("map {map}: {}", chain(.source))]
    Map {
        /// Name of the map.
        map: String,
        /// What the kernel said.
        source: MapError,
    },
    /// A write found its map full.
    #[error("map {map} is full; start with a larger {flag} after `svcproxy --cleanup`")]
    MapFull {
        /// Name of the map.
        map: String,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// The pinned maps are of another version of svcproxy.
    #[error(
        "{} holds maps of layout {found}, this svcproxy uses layout {expected}: run `svcproxy --cleanup` with the \
         version that made them, or with this one if no traffic depends on them",
        .dir.display()
    )]
    Layout {
        /// Where the maps are pinned.
        dir: PathBuf,
        /// Their version.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// Nothing is pinned.
    #[error("no svcproxy datapath under {}: start one with `svcproxy --iface … -f …`, or name its --pin-dir", .dir.display())]
    NotRunning {
        /// Where we looked.
        dir: PathBuf,
    },
    /// The interface carries something else than Ethernet.
    #[error("{name} carries no Ethernet frames; attach svcproxy to an Ethernet-like interface instead")]
    NotEthernet {
        /// Its name.
        name: String,
    },
    /// The driver has no native XDP.
    #[error("{name} takes no native XDP program ({source}); use --mode tc or auto")]
    NoNativeXdp {
        /// The interface.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another program has the interface's XDP hook.
    #[error("{name} already runs the XDP program {program}; detach it (`ip link set {name} xdp off`) or use --mode tc")]
    ForeignXdp {
        /// The interface.
        name: String,
        /// Name and id of the program.
        program: String,
    },
    /// Another svcproxy, with other pins, is attached.
    #[error(
        "another svcproxy is attached to {name} (program id {program}); stop it and run `svcproxy --cleanup` with its \
         --pin-dir first"
    )]
    ForeignSvcproxy {
        /// The interface.
        name: String,
        /// Program id.
        program: u32,
    },
    /// Our place in the clsact qdisc is taken by a filter that is not in our pin directory.
    #[error(
        "{name} has a tc filter of priority 4000 with svcproxy's handle already, probably of another svcproxy: stop that and run \
         `svcproxy --cleanup` with its --pin-dir first, or remove the filter (`tc filter show dev {name} ingress`)"
    )]
    ForeignFilter {
        /// The interface.
        name: String,
    },
    /// A program could not be attached.
    #[error("could not attach to {name} ({hook}): {}", chain(.source))]
    Attach {
        /// The interface.
        name: String,
        /// The hook.
        hook: &'static str,
        /// What the kernel said.
        source: ProgramError,
    },
    /// What the flag names is no cgroup2 hierarchy.
    #[error("{} is not in a cgroup2 file system; name a directory that is with --cgroup-root (`mount -t cgroup2` lists them)", .dir.display())]
    NotCgroup2 {
        /// What was named.
        dir: PathBuf,
    },
    /// A program could not be attached to the node's sockets.
    #[error("could not attach to the sockets of {} ({hook}): {}", .cgroup.display(), chain(.source))]
    AttachSockets {
        /// The cgroup.
        cgroup: PathBuf,
        /// The hook.
        hook: &'static str,
        /// What the kernel said.
        source: ProgramError,
    },
    /// The kernel did not say which network namespace is ours.
    #[error("cannot tell this network namespace from others (SO_NETNS_COOKIE, Linux 5.14): {0}")]
    OwnNamespace(io::Error),
    /// A link could not be pinned.
    #[error("could not pin {}: {}", .path.display(), chain(.source))]
    Pin {
        /// Where to.
        path: PathBuf,
        /// What the kernel said.
        source: PinError,
    },
    /// A file operation failed.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// No network namespace for a rehearsal.
    #[error(
        "could not make a network namespace to ask the program in ({0}): run svcproxy with sudo, or grant it CAP_SYS_ADMIN"
    )]
    Namespace(std::io::Error),
    /// A program ended without counting its packet.
    #[error("the program counted no reason for its verdict: that is a bug in svcproxy")]
    NotCounted,
    /// The kernel's tick could not be found out.
    #[error("could not measure this kernel's clock: {0}")]
    Clock(String),
}

impl DatapathError {
    /// What the verifier said of a program that it refused.
    pub fn verifier_log(&self) -> Option<String> {
        match self {
            Self::Program { source, .. } => verifier_log(source),
            _ => None,
        }
    }

    /// Turns a map error into ours.
    pub(super) fn map(map: &str) -> impl Fn(MapError) -> Self {
        move |source| Self::Map {
            map: map.to_owned(),
            source,
        }
    }

    /// Turns a file error into ours.
    pub(super) fn io(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// Why the kernel refused a program, in one line: the verifier's log may have thousands.
fn refusal(error: &ProgramError) -> String {
    let Some(log) = verifier_log(error).filter(|log| !log.trim().is_empty()) else {
        return chain(error);
    };
    let kernel = nix::sys::utsname::uname();
    let kernel = kernel
        .as_ref()
        .map_or_else(|_| "?".into(), |name| name.release().to_string_lossy());
    format!(
        "Linux {kernel} refuses it: {} (the whole log: --verifier-log FILE)",
        complaint(&log)
    )
}

fn verifier_log(error: &ProgramError) -> Option<String> {
    match error {
        ProgramError::LoadError { verifier_log, .. } => Some(verifier_log.to_string()),
        _ => None,
    }
}

/// The line of a verifier's log that says what is wrong: the last before the statistics.
fn complaint(log: &str) -> &str {
    const STATISTICS: [&str; 4] = ["processed ", "stack depth ", "verification time ", "peak_states "];
    let lines = log.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut complaints = lines.filter(|line| !STATISTICS.iter().any(|start| line.starts_with(start)));
    complaints.next_back().unwrap_or("no reason given")
}

/// An error with its causes on one line; aya's own messages leave the cause out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

/// The errno behind a program error, wherever aya keeps it.
pub(super) fn errno(error: &ProgramError) -> Option<i32> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.raw_os_error();
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Linux 6.1 said of svcproxy_out, shortened.
    const LOG: &str = "\
1326: (18) r1 = 0xff3911fcc0955400    ; R1_w=map_ptr(off=0,ks=40,vs=64,imm=0)
1328: (79) r2 = *(u64 *)(r10 -96)     ; R2_w=mem(off=0,imm=0) R10=fp0
1329: (85) call bpf_map_lookup_elem#1
R2 type=mem expected=fp, pkt, pkt_meta, map_key, map_value
verification time 5242 usec
stack depth 0+0+136+0+0
processed 19 insns (limit 1000000) max_states_per_insn 0 total_states 1 peak_states 1 mark_read 1
";

    #[test]
    fn the_last_line_before_the_statistics_says_what_is_wrong() {
        let said = "R2 type=mem expected=fp, pkt, pkt_meta, map_key, map_value";
        assert_eq!(complaint(LOG), said);
        assert_eq!(
            complaint("back-edge from insn 6730 to 6731"),
            "back-edge from insn 6730 to 6731"
        );
        assert_eq!(complaint("\n"), "no reason given");
    }
}
