//! Programs on the sockets of the node's own processes: attached to a cgroup, pinned, and replaced by the next run.
//!
//! Each link is pinned as `links/cgroup-<hook>`, beside those of interfaces. A new program is attached before the old
//! one goes: of two in a row the second finds an endpoint's address and leaves it alone.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use aya::programs::{CgroupAttachMode, CgroupSockAddr, ProgramError, links::FdLink};
use nix::{
    libc,
    sys::{
        socket::{AddressFamily, GetSockOpt, SockFlag, SockType, socket},
        statfs::{CGROUP2_SUPER_MAGIC, statfs},
    },
};

use super::{Datapath, DatapathError, pins::unpin};

/// What a process does with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketHook {
    /// connect(2) of an IPv4 socket.
    Connect4,
    /// connect(2) of an IPv6 socket.
    Connect6,
    /// A datagram to an IPv4 address.
    Sendmsg4,
    /// A datagram to an IPv6 address.
    Sendmsg6,
    /// Where a datagram came from, to an IPv4 socket.
    Recvmsg4,
    /// Where a datagram came from, to an IPv6 socket.
    Recvmsg6,
    /// getpeername(2) of an IPv4 socket.
    Getpeername4,
    /// getpeername(2) of an IPv6 socket.
    Getpeername6,
}

impl SocketHook {
    /// All hooks, those that name a peer first: no process shall see an address that it has not asked for.
    pub const ALL: [Self; 8] = [
        Self::Recvmsg4,
        Self::Recvmsg6,
        Self::Getpeername4,
        Self::Getpeername6,
        Self::Connect4,
        Self::Connect6,
        Self::Sendmsg4,
        Self::Sendmsg6,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Connect4 => "connect4",
            Self::Connect6 => "connect6",
            Self::Sendmsg4 => "sendmsg4",
            Self::Sendmsg6 => "sendmsg6",
            Self::Recvmsg4 => "recvmsg4",
            Self::Recvmsg6 => "recvmsg6",
            Self::Getpeername4 => "getpeername4",
            Self::Getpeername6 => "getpeername6",
        }
    }

    /// Name of its program.
    pub(super) const fn program(self) -> &'static str {
        match self {
            Self::Connect4 => "svcproxy_conn4",
            Self::Connect6 => "svcproxy_conn6",
            Self::Sendmsg4 => "svcproxy_send4",
            Self::Sendmsg6 => "svcproxy_send6",
            Self::Recvmsg4 => "svcproxy_recv4",
            Self::Recvmsg6 => "svcproxy_recv6",
            Self::Getpeername4 => "svcproxy_peer4",
            Self::Getpeername6 => "svcproxy_peer6",
        }
    }

    /// What its link is pinned as. No interface has this pin: theirs end in the name of another kind of hook.
    pub(super) fn pin_name(self) -> String {
        format!("cgroup-{}", self.name())
    }
}

impl Datapath {
    /// Attaches to the sockets of all processes in `cgroup` and below, and pins the links in `dir` in place of those of
    /// an earlier run.
    ///
    /// # Errors
    ///
    /// When that is no cgroup, or when the kernel refuses.
    pub fn attach_sockets(&mut self, dir: &Path, cgroup: &Path) -> Result<(), DatapathError> {
        if !statfs(cgroup).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC) {
            return Err(DatapathError::NotCgroup2 { dir: cgroup.to_owned() });
        }
        let directory = fs::File::open(cgroup).map_err(DatapathError::io(cgroup))?;
        for hook in SocketHook::ALL {
            let failed = |source| DatapathError::AttachSockets {
                cgroup: cgroup.to_owned(),
                hook: hook.name(),
                source,
            };
            // A link makes room for others by itself; the mode is that of attachments without one.
            let attach = |program: &mut CgroupSockAddr| {
                let id = program.attach(&directory, CgroupAttachMode::Single)?;
                program.take_link(id)
            };
            let owned = self.socket_program(hook).and_then(attach).map_err(failed)?;
            let link = FdLink::try_from(owned).map_err(|_| failed(ProgramError::NotAttached))?;
            let (fresh, path) = (dir.join(format!("{}-new", hook.pin_name())), dir.join(hook.pin_name()));
            unpin(&fresh)?; // of a run that was killed here
            link.pin(&fresh).map_err(|source| DatapathError::Pin {
                path: fresh.clone(),
                source,
            })?;
            fs::rename(&fresh, &path).map_err(DatapathError::io(&path))?;
        }
        Ok(())
    }
}

/// The root of this machine's cgroup2 hierarchy; failing that, of the part of it that is mounted.
///
/// # Errors
///
/// When the mounts cannot be read.
pub fn cgroup_root() -> Result<Option<PathBuf>, DatapathError> {
    let mounts = Path::new("/proc/self/mounts");
    let text = fs::read_to_string(mounts).map_err(DatapathError::io(mounts))?;
    let found: Vec<_> = cgroup2_mounts(&text).collect();
    let root = found.iter().find(|dir| is_root_cgroup(dir));
    Ok(root.or(found.first()).cloned())
}

/// Whether a cgroup is the one above all others: the kernel numbers it 1 (`kernfs_create_root`). In a container's cgroup
/// namespace what looks like the root is not.
pub fn is_root_cgroup(dir: &Path) -> bool {
    fs::metadata(dir).is_ok_and(|metadata| metadata.ino() == 1)
}

/// Where cgroup2 is mounted, by the text of `/proc/self/mounts`.
fn cgroup2_mounts(mounts: &str) -> impl Iterator<Item = PathBuf> {
    let mount = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (dir, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| unescaped(dir).into())
    };
    mounts.lines().filter_map(mount)
}

/// A path as mounts(5) writes it: blanks and the like as `\040`.
fn unescaped(path: &str) -> String {
    let mut parts = path.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(octet) => {
                text.push(octet.into());
                text.push_str(&part[3..]);
            }
            None => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

/// `SO_NETNS_COOKIE`, which nix does not have.
#[derive(Debug, Clone, Copy)]
struct NetnsCookie;

nix::getsockopt_impl!(
    NetnsCookie,
    libc::SOL_SOCKET,
    libc::SO_NETNS_COOKIE,
    u64,
    nix::sys::socket::sockopt::GetStruct<u64>
);

/// The kernel's number of this process's network namespace.
pub(super) fn own_namespace() -> Result<u64, DatapathError> {
    let any = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
    any.and_then(|socket| NetnsCookie.get(&socket))
        .map_err(|error| DatapathError::OwnNamespace(io::Error::from(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_among_the_mounts() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
                      none /host\\040root/cgroup cgroup2 rw 0 0\n";
        let found: Vec<_> = cgroup2_mounts(mounts).collect();
        assert_eq!(
            found,
            ["/sys/fs/cgroup/unified", "/host root/cgroup"].map(PathBuf::from)
        );
    }
}
