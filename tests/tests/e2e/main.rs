//! Real packets between real programs: every promise of svcproxy, kept or broken in a lab of its own.
//!
//! These tests need root, and fail without it. `cargo xtask test` builds the daemon they start.

mod lab;
