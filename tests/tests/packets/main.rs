//! The real programs, frame by frame (`BPF_PROG_TEST_RUN`): bytes in, verdict and bytes out.
//!
//! These tests need root, and fail without it. They load the programs once, into a network namespace of their own
//! that ends with them; nothing is attached outside of it.

mod answer;
mod bystanders;
mod cases;
mod cluster;
mod differential;
mod figures;
mod filter;
mod forwarding;
mod hardware_sum;
#[path = "../../../svcproxy-common/tests/model/mod.rs"]
mod model;
mod network;
mod refusals;
mod tables;
mod world;
