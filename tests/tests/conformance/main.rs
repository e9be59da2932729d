//! What kube-proxy does, as a table: given these objects and flags, when a client connects, then this becomes of it.
//!
//! Every row was written from kube-proxy's documented and observed behaviour (nftables mode), none from this code. It is
//! held against the rules as one function (`svcproxy::conformance`) and against `svcproxy explain --batch`, which asks
//! the real program. Needs root.

mod batch;
mod choice;
mod given;
mod listed;
mod objects;
mod source;
mod table;
mod verdicts;
mod ways;
