//! Real packets between real programs: every promise of svcproxy, kept or broken in a lab of its own.
//!
//! Each file is one kind of promise, each test a row of it over one hook. They need root, and fail without it. `cargo
//! xtask test` builds the daemon that they start.

#![forbid(unsafe_code)]

mod attachment;
mod bystanders;
mod cleanup;
mod examples;
mod explain;
mod exposed;
mod fragments;
mod get;
mod health;
mod interfaces;
mod lab;
mod live;
mod load;
mod masquerade;
mod network;
mod node;
mod path_mtu;
mod refusals;
mod remote;
mod restart;
mod scenario;
mod transfer;
mod udp;
mod unreachable;
mod verdicts;

/// Turns `fn case(mode: &str)` into the tests `case::xdp` and `case::tc`.
#[macro_export]
macro_rules! over_xdp_and_tc {
    ($($case:ident),+ $(,)?) => { $(
        mod $case {
            #[test]
            fn xdp() {
                super::$case("xdp");
            }

            #[test]
            fn tc() {
                super::$case("tc");
            }
        }
    )+ };
}
