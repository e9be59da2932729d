//! Programs on interfaces: attached, pinned, adopted from an earlier run, and taken off again.
//!
//! Each link is pinned as `links/<interface>-<ifindex>-<hook>`: when the daemon ends the programs stay, and the next
//! one swaps its own into the same links without a packet in between seeing none.

use std::{
    fmt, fs, io,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use aya::programs::{
    ProgramError, SchedClassifier, TcAttachType, XdpMode,
    links::{FdLink, PinnedLink},
    loaded_programs,
    tc::{SchedClassifierLink, TcAttachOptions},
    xdp::XdpLink,
};

use super::{Datapath, DatapathError, error::errno, sockets::SocketHook};
use crate::network::Link;

type Result<T> = std::result::Result<T, DatapathError>;

/// A place in an interface's packet path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Packets as the driver receives them.
    Xdp,
    /// Packets that [`Hook::Xdp`] has left to tc.
    AfterXdp,
    /// Packets that have come in, as skbs.
    TcIn,
    /// Packets on their way out.
    TcOut,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Hook {
    /// All hooks.
    pub const ALL: [Self; 4] = [Self::Xdp, Self::AfterXdp, Self::TcIn, Self::TcOut];
    /// Those whose programs decide about packets.
    pub const DECIDING: [Self; 3] = [Self::Xdp, Self::TcIn, Self::TcOut];

    const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::AfterXdp => "after-xdp",
            Self::TcIn => "tc-in",
            Self::TcOut => "tc-out",
        }
    }

    /// Name of its program.
    pub(super) const fn program(self) -> &'static str {
        match self {
            Self::Xdp => "svcproxy_xdp",
            Self::AfterXdp | Self::TcIn | Self::TcOut => self.tc().0,
        }
    }

    /// The tc program of this hook and where it goes.
    pub(super) const fn tc(self) -> (&'static str, TcAttachType) {
        match self {
            Self::TcOut => ("svcproxy_out", TcAttachType::Egress),
            Self::Xdp | Self::AfterXdp => ("svcproxy_after_xdp", TcAttachType::Ingress),
            Self::TcIn => ("svcproxy_in", TcAttachType::Ingress),
        }
    }
}

/// Which hook takes incoming packets; replies of pods always leave through tc egress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// XDP where it pays, tc elsewhere.
    Auto,
    /// Native XDP or an error.
    Xdp,
    /// tc.
    Tc,
}

/// What [`Datapath::attach`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The hook that takes incoming packets.
    pub ingress: Hook,
    /// Why that one.
    pub why: String,
    /// Whether links of an earlier run were taken over.
    pub adopted: bool,
}

impl Datapath {
    /// Attaches to an interface and pins the links in `dir`.
    ///
    /// # Errors
    ///
    /// When the interface is none for us, when another program has the hook, when the kernel refuses.
    pub fn attach(&mut self, dir: &Path, link: &Link, mode: Mode) -> Result<Attached> {
        if !link.ethernet {
            return Err(DatapathError::NotEthernet {
                name: link.name.clone(),
            });
        }
        let (ingress, adopted, why) = match mode {
            Mode::Tc => (Hook::TcIn, self.hook(dir, link, Hook::TcIn)?, "--mode tc".to_owned()),
            Mode::Xdp => (Hook::Xdp, self.xdp_hooks(dir, link)?, "--mode xdp".to_owned()),
            Mode::Auto if link.kind.is_none() => match self.xdp_hooks(dir, link) {
                Ok(adopted) => (Hook::Xdp, adopted, "a physical interface with native XDP".to_owned()),
                Err(DatapathError::NoNativeXdp { source, .. }) => {
                    let why = format!("its driver takes no native XDP program: {source}");
                    (Hook::TcIn, self.hook(dir, link, Hook::TcIn)?, why)
                }
                Err(error) => return Err(error),
            },
            Mode::Auto => {
                let kind = link.kind.as_deref().unwrap_or_default();
                let why = format!("a {kind} interface: XDP would cost it GSO and GRO");
                (Hook::TcIn, self.hook(dir, link, Hook::TcIn)?, why)
            }
        };
        let out = self.hook(dir, link, Hook::TcOut)?;
        for hook in Hook::ALL {
            let other = match hook {
                Hook::Xdp | Hook::AfterXdp => ingress == Hook::TcIn,
                Hook::TcIn => ingress == Hook::Xdp,
                Hook::TcOut => false,
            };
            if other {
                unpin(&dir.join(pin_name(link, hook)))?;
            }
        }
        Ok(Attached {
            ingress,
            why,
            adopted: adopted && out,
        })
    }

    /// Attaches XDP and the hook for what it leaves to tc, that one first.
    fn xdp_hooks(&mut self, dir: &Path, link: &Link) -> Result<bool> {
        let after = self.hook(dir, link, Hook::AfterXdp)?;
        Ok(self.hook(dir, link, Hook::Xdp)? && after)
    }

    /// Attaches one hook; true when its link was there and has been adopted.
    fn hook(&mut self, dir: &Path, link: &Link, hook: Hook) -> Result<bool> {
        let path = dir.join(pin_name(link, hook));
        if let Ok(pinned) = PinnedLink::from_pin(&path) {
            let adopted = match hook {
                Hook::Xdp => self.adopt_xdp(pinned.into()),
                Hook::AfterXdp | Hook::TcIn | Hook::TcOut => self.adopt_tc(hook, pinned.into()),
            };
            if adopted.is_ok() {
                return Ok(true);
            }
            unpin(&path)?; // its interface is gone
        }
        let fd_link = match hook {
            Hook::Xdp => self.attach_xdp(link)?,
            Hook::AfterXdp | Hook::TcIn | Hook::TcOut => self.attach_tc(link, hook)?,
        };
        fd_link
            .pin(&path)
            .map_err(|source| DatapathError::Pin { path, source })?;
        Ok(false)
    }

    // Dropping what `take_link` returns closes a file descriptor; the pin keeps the link.

    fn adopt_xdp(&mut self, link: FdLink) -> std::result::Result<(), ProgramError> {
        let program = self.xdp()?;
        let id = program.attach_to_link(XdpLink::try_from(link).map_err(|_| ProgramError::NotAttached)?)?;
        program.take_link(id).map(drop)
    }

    fn adopt_tc(&mut self, hook: Hook, link: FdLink) -> std::result::Result<(), ProgramError> {
        let program = self.tc(hook.tc().0)?;
        let id = program.attach_to_link(SchedClassifierLink::try_from(link).map_err(|_| ProgramError::NotAttached)?)?;
        program.take_link(id).map(drop)
    }

    fn attach_xdp(&mut self, link: &Link) -> Result<FdLink> {
        let attach = |program: &mut aya::programs::Xdp| {
            let id = program.attach_to_if_index(link.index, XdpMode::Driver)?;
            program.take_link(id)
        };
        let owned = self.xdp().and_then(attach).map_err(|source| match errno(&source) {
            Some(nix::libc::EBUSY) => busy(link),
            Some(code @ (nix::libc::EOPNOTSUPP | nix::libc::EINVAL | nix::libc::ERANGE)) => {
                DatapathError::NoNativeXdp {
                    name: link.name.clone(),
                    source: io::Error::from_raw_os_error(code),
                }
            }
            _ => DatapathError::Attach {
                name: link.name.clone(),
                hook: "xdp",
                source,
            },
        })?;
        FdLink::try_from(owned).map_err(|_| DatapathError::NoNativeXdp {
            name: link.name.clone(),
            source: io::Error::other("the kernel has no XDP links"),
        })
    }

    fn attach_tc(&mut self, link: &Link, hook: Hook) -> Result<FdLink> {
        let (name, direction) = hook.tc();
        let failed = |source| DatapathError::Attach {
            name: link.name.clone(),
            hook: hook.name(),
            source,
        };
        let (_, present) = SchedClassifier::query_tcx(&link.name, direction).map_err(failed)?;
        if let Some(other) = present
            .iter()
            .find(|program| program.name() == kernel_name(name).as_bytes())
        {
            return Err(DatapathError::ForeignSvcproxy {
                name: link.name.clone(),
                program: other.id(),
            });
        }
        let attach = |program: &mut SchedClassifier| {
            let order = TcAttachOptions::TcxOrder(Default::default());
            let id = program.attach_with_options(&link.name, direction, order)?;
            program.take_link(id)
        };
        let owned = self.tc(name).and_then(attach).map_err(failed)?;
        FdLink::try_from(owned).map_err(|_| failed(ProgramError::NotAttached))
    }
}

/// The kernel keeps 15 characters of a program's name (`BPF_OBJ_NAME_LEN`).
fn kernel_name(program: &str) -> &str {
    program.get(..15).unwrap_or(program)
}

/// Names of the links pinned in a directory.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn pinned(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(DatapathError::io(dir))? {
        let name = entry.map_err(DatapathError::io(dir))?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Detaches whatever is pinned in a directory and not called one of `keep`; returns the names of those links.
///
/// # Errors
///
/// When the directory or a pin in it cannot be changed.
pub fn keep_only(dir: &Path, keep: &[String]) -> Result<Vec<String>> {
    let mut others = pinned(dir)?;
    others.retain(|name| !keep.contains(name));
    for name in &others {
        unpin(&dir.join(name))?;
    }
    Ok(others)
}

/// Detaches from every interface, and waits until the kernel has let go. It frees a link some time after its last pin,
/// when that is not listed any more but packets still take the program, and only then the program.
///
/// # Errors
///
/// When the directory or a pin in it cannot be changed.
pub fn detach_all(dir: &Path) -> Result<()> {
    let info = |name: String| {
        PinnedLink::from_pin(dir.join(name))
            .and_then(|link| FdLink::from(link).info())
            .ok()
    };
    let programs: Vec<_> = pinned(dir)?
        .into_iter()
        .filter_map(info)
        .map(|info| info.program_id())
        .collect();
    keep_only(dir, &[])?;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5)
        && loaded_programs()
            .flatten()
            .any(|program| programs.contains(&program.id()))
    {
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Detaches from every interface not in `keep`, and not from sockets; returns the names of the links it removed.
///
/// # Errors
///
/// When the directory or a pin in it cannot be changed.
pub fn detach_others(dir: &Path, keep: &[Link]) -> Result<Vec<String>> {
    let names = |link: &Link| Hook::ALL.map(|hook| pin_name(link, hook));
    let sockets = SocketHook::ALL.map(SocketHook::pin_name);
    keep_only(dir, &keep.iter().flat_map(names).chain(sockets).collect::<Vec<_>>())
}

/// Removes a pin; the link goes with its last reference.
pub(super) fn unpin(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DatapathError::io(path)(error)),
        _ => Ok(()),
    }
}

/// bpffs keeps names with dots for itself (`bpf_lookup`, kernel/bpf/inode.c), and VLAN interfaces have them.
fn pin_name(link: &Link, hook: Hook) -> String {
    format!(
        "{}-{}-{hook}",
        link.name.replace('%', "%25").replace('.', "%2e"),
        link.index
    )
}

/// The interface and the hook of a pin.
fn parse_pin_name(name: &str) -> Option<(String, Hook)> {
    let ends = |hook: &Hook| name.strip_suffix(&format!("-{hook}"));
    // One name may end with another: `after-xdp`.
    let hook = Hook::ALL.into_iter().filter(|hook| ends(hook).is_some());
    let hook = hook.max_by_key(|hook| hook.name().len())?;
    let (link, _index) = ends(&hook)?.rsplit_once('-')?;
    Some((link.replace("%2e", ".").replace("%25", "%"), hook))
}

/// The interfaces and the hooks that links are pinned for in a directory.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn attached(dir: &Path) -> Result<Vec<(String, Hook)>> {
    Ok(pinned(dir)?.iter().filter_map(|name| parse_pin_name(name)).collect())
}

/// Who has the XDP hook that was refused to us.
fn busy(link: &Link) -> DatapathError {
    let name = link.name.clone();
    let id = link.xdp_program.unwrap_or_default();
    let program = loaded_programs().flatten().find(|program| program.id() == id);
    match program.as_ref().and_then(|program| program.name_as_str()) {
        Some(program) if program == Hook::Xdp.program() => DatapathError::ForeignSvcproxy { name, program: id },
        Some(program) => DatapathError::ForeignXdp {
            name,
            program: format!("{program} (id {id})"),
        },
        None => DatapathError::ForeignXdp {
            name,
            program: "of someone else".to_owned(),
        },
    }
}
