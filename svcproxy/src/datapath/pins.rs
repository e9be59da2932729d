//! What is attached, as files: each hook of an interface has a pin `links/<interface>-<ifindex>-<hook>`.
//!
//! A tcx or XDP link lives by its pin. A filter of a clsact qdisc lives without one; there the program is pinned instead,
//! as `…-clsact`, and says that the filter is ours to replace and to remove.

use std::{
    fs, io,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use aya::programs::{
    ProgramInfo,
    links::{FdLink, PinnedLink},
    loaded_programs,
};

use super::{DatapathError, clsact, links::Hook, sockets::SocketHook};
use crate::network::Link;

type Result<T> = std::result::Result<T, DatapathError>;

/// What the pin of a clsact filter's program ends with.
const CLSACT: &str = "-clsact";

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
    let program = |name: String| {
        let path = dir.join(&name);
        if name.ends_with(CLSACT) {
            return Some(ProgramInfo::from_pin(path).ok()?.id());
        }
        let link = FdLink::from(PinnedLink::from_pin(path).ok()?);
        Some(link.info().ok()?.program_id())
    };
    let programs: Vec<_> = pinned(dir)?.into_iter().filter_map(program).collect();
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
    let names = |link: &Link| {
        let links = Hook::ALL.map(|hook| pin_name(link, hook));
        let filters = Hook::ALL.map(|hook| clsact_pin_name(link, hook));
        links.into_iter().chain(filters)
    };
    let sockets = SocketHook::ALL.map(SocketHook::pin_name);
    keep_only(dir, &keep.iter().flat_map(names).chain(sockets).collect::<Vec<_>>())
}

/// Removes a pin, and the filter of one that stands for a filter. A link goes with its last reference.
pub(super) fn unpin(path: &Path) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if path.exists()
        && let Some(Pin {
            index,
            hook,
            clsact: true,
            ..
        }) = Pin::parse(&name)
    {
        clsact::detach(index, hook)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DatapathError::io(path)(error)),
        _ => Ok(()),
    }
}

/// bpffs keeps names with dots for itself (`bpf_lookup`, kernel/bpf/inode.c), and VLAN interfaces have them.
pub(super) fn pin_name(link: &Link, hook: Hook) -> String {
    format!(
        "{}-{}-{hook}",
        link.name.replace('%', "%25").replace('.', "%2e"),
        link.index
    )
}

/// Name of the pin that stands for a filter.
pub(super) fn clsact_pin_name(link: &Link, hook: Hook) -> String {
    pin_name(link, hook) + CLSACT
}

/// What the name of a pin says.
#[derive(Debug, PartialEq, Eq)]
struct Pin {
    interface: String,
    index: u32,
    hook: Hook,
    /// Whether it stands for a filter of a clsact qdisc.
    clsact: bool,
}

impl Pin {
    fn parse(name: &str) -> Option<Self> {
        let (name, clsact) = match name.strip_suffix(CLSACT) {
            Some(name) => (name, true),
            None => (name, false),
        };
        let ends = |hook: &Hook| name.strip_suffix(&format!("-{hook}"));
        // One name may end with another: `after-xdp`.
        let hook = Hook::ALL.into_iter().filter(|hook| ends(hook).is_some());
        let hook = hook.max_by_key(|hook| hook.to_string().len())?;
        let (link, index) = ends(&hook)?.rsplit_once('-')?;
        Some(Self {
            interface: link.replace("%2e", ".").replace("%25", "%"),
            index: index.parse().ok()?,
            hook,
            clsact,
        })
    }
}

/// The interfaces and the hooks that are pinned in a directory.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn attached(dir: &Path) -> Result<Vec<(String, Hook)>> {
    let names = pinned(dir)?;
    let pins = names.iter().filter_map(|name| Pin::parse(name));
    Ok(pins.map(|pin| (pin.interface, pin.hook)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_pin_says_what_it_was_made_of() {
        let link = Link {
            name: "eth0.100-a%b".to_owned(),
            index: 7,
            ..Link::default()
        };
        for hook in Hook::ALL {
            for (name, clsact) in [(pin_name(&link, hook), false), (clsact_pin_name(&link, hook), true)] {
                assert!(!name.contains('.'), "{name}");
                let pin = Pin {
                    interface: link.name.clone(),
                    index: 7,
                    hook,
                    clsact,
                };
                assert_eq!(Pin::parse(&name), Some(pin), "{name}");
            }
        }
        assert_eq!(Pin::parse("cgroup-connect4"), None);
    }
}
