//! What this kernel has of the features that svcproxy uses, found out by trial and never by its version, and what is used
//! in place of the others.

use std::fmt;

/// Features that not every kernel from Linux 6.1 on has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Programs at tc as links (Linux 6.6).
    pub tcx: bool,
    /// `bpf_fib_lookup` names the source address (Linux 6.7).
    pub fib_source: bool,
}

impl Features {
    /// One line about what is missing and what is used instead; `None` when all is there.
    pub fn without(&self) -> Option<impl fmt::Display> {
        let missing: Vec<_> = [
            (!self.tcx).then_some("no tcx: programs attach at tc as filters of a clsact qdisc"),
            (!self.fib_source).then_some(
                "no BPF_FIB_LOOKUP_SRC: packets are masqueraded behind the first address of the interface they leave by",
            ),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!missing.is_empty()).then(|| format!("this kernel has {}", missing.join("; it has ")))
    }
}
