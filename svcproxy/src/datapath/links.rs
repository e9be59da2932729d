//! Programs on interfaces: attached, adopted from an earlier run, and swapped.
//!
//! What is attached is pinned, see [`pins`](super::pins): when the daemon ends the programs stay, and the next one swaps its
//! own into the same links and filters without a packet in between seeing none.

use std::{fmt, fs, io, path::Path};

use aya::programs::{
    ProgramError, SchedClassifier, TcAttachType, XdpMode,
    links::{FdLink, PinnedLink},
    loaded_programs,
    tc::{SchedClassifierLink, TcAttachOptions},
    xdp::XdpLink,
};

use super::{
    Datapath, DatapathError,
    clsact::{self, Outcome},
    error::errno,
    pins::{clsact_pin_name, pin_name, unpin},
};
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

    pub(super) const fn name(self) -> &'static str {
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

/// How programs attach at tc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcAttach {
    /// By tcx links (Linux 6.6).
    Tcx,
    /// By filters of the clsact qdisc.
    Clsact,
}

impl TcAttach {
    /// By tcx, if the kernel has it.
    pub fn probe() -> Self {
        // Any interface serves, and every network namespace has this one.
        match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
            Ok(_) => Self::Tcx,
            Err(_) => Self::Clsact,
        }
    }
}

impl fmt::Display for TcAttach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
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
                unpin(&dir.join(clsact_pin_name(link, hook)))?;
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

    /// Attaches one hook; true when it was attached by an earlier run and has been adopted.
    fn hook(&mut self, dir: &Path, link: &Link, hook: Hook) -> Result<bool> {
        if hook == Hook::Xdp {
            return self.hook_by_link(dir, link, hook);
        }
        // What an earlier run attached the other way (by another kernel, or another --tc-attach) goes last: a packet that
        // meets both is translated once.
        match self.tc_attach {
            TcAttach::Tcx => {
                let adopted = self.hook_by_link(dir, link, hook)?;
                unpin(&dir.join(clsact_pin_name(link, hook)))?;
                Ok(adopted)
            }
            TcAttach::Clsact => {
                let adopted = self.hook_by_filter(dir, link, hook)?;
                unpin(&dir.join(pin_name(link, hook)))?;
                Ok(adopted)
            }
        }
    }

    fn hook_by_link(&mut self, dir: &Path, link: &Link, hook: Hook) -> Result<bool> {
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

    fn hook_by_filter(&mut self, dir: &Path, link: &Link, hook: Hook) -> Result<bool> {
        let failed = |source| DatapathError::Attach {
            name: link.name.clone(),
            hook: hook.name(),
            source,
        };
        let path = dir.join(clsact_pin_name(link, hook));
        let program = self.tc(hook.tc().0).map_err(failed)?;
        let adopted = path.exists() && clsact::replace(program, link, hook).is_ok();
        if !adopted && let Outcome::Taken = clsact::attach(program, link, hook).map_err(failed)? {
            return Err(DatapathError::ForeignFilter {
                name: link.name.clone(),
            });
        }
        // The pin is renamed over the former one, so that there is one at any time.
        let fresh = dir.join(format!("{}-new", clsact_pin_name(link, hook)));
        let mut pinned = || {
            let _ = fs::remove_file(&fresh); // of a run that was killed here
            program.pin(&fresh).map_err(|source| DatapathError::Pin {
                path: fresh.clone(),
                source,
            })?;
            fs::rename(&fresh, &path).map_err(DatapathError::io(&path))
        };
        if let Err(error) = pinned() {
            clsact::detach(link.index, hook)?;
            return Err(error);
        }
        Ok(adopted)
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
