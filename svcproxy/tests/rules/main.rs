//! The rules of Services, by their numbers: given a cluster in YAML and a connection, what becomes of it.
//!
//! Every connection is judged twice: by the rules written as one function (`svcproxy::conformance`), and by the planned
//! maps read as the programs read them.

mod choice;
mod given;
#[path = "../plan/interpret.rs"]
mod interpret;
mod life;
mod objects;
mod source;
mod verdicts;
mod ways;
