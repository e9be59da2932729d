//! The kernel programs: one entry per hook. What they decide is in `svcproxy_common::process`.
//!
//! A packet is followed in this order: this file → `xdp.rs` or `tc.rs` (how the hook sees a packet) →
//! `svcproxy-common/src/process.rs` (every packet) → `connection.rs` (once per connection) → `choice.rs` (which
//! endpoint). `maps.rs` is where the tables live.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

mod access;
mod answer;
mod clock;
mod fib;
mod maps;
mod reject;
mod reset;
mod tc;
mod xdp;

use aya_ebpf::{
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

/// Packets as the driver receives them, before the kernel has made an skb of them.
#[xdp(frags)]
fn svcproxy_xdp(ctx: XdpContext) -> u32 {
    xdp::run(&ctx)
}

/// Packets that have come in, as skbs.
#[classifier]
fn svcproxy_in(ctx: TcContext) -> i32 {
    tc::run::<true, true>(&ctx)
}

/// Packets that have come in on an interface with [`svcproxy_xdp`]: what that one leaves to tc.
#[classifier]
fn svcproxy_after_xdp(ctx: TcContext) -> i32 {
    tc::after_xdp(&ctx)
}

/// Packets on their way out: replies of endpoints that the kernel has routed.
#[classifier]
fn svcproxy_out(ctx: TcContext) -> i32 {
    tc::run::<false, true>(&ctx)
}

/// What [`svcproxy_in`] and [`svcproxy_xdp`] leave to it: packets with tags, extension headers and the like.
#[classifier]
fn svcproxy_in_any(ctx: TcContext) -> i32 {
    tc::run::<true, false>(&ctx)
}

/// What [`svcproxy_out`] leaves to it.
#[classifier]
fn svcproxy_out_any(ctx: TcContext) -> i32 {
    tc::run::<false, false>(&ctx)
}

/// Not attached anywhere: run once at start, it tells the daemon how this kernel counts jiffies.
#[xdp]
fn svcproxy_clock(ctx: XdpContext) -> u32 {
    clock::sample(&ctx)
}

/// The helpers that fix checksums and redirect are open to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// On the host this crate is only linted.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
