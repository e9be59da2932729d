//! The kernel programs: one entry per hook. What they decide is in `svcproxy_common::process`.
//!
//! A packet is followed in this order: this file → `xdp.rs` or `tc.rs` (how the hook sees a packet) →
//! `svcproxy-common/src/process.rs` (every packet) → `connection.rs` (once per connection) → `choice.rs` (which
//! endpoint). `maps.rs` is where the tables live.
//!
//! A process on the node itself: this file → `socket.rs` → `svcproxy-common/src/socket.rs` → `choice.rs`.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

mod access;
mod answer;
mod clock;
mod fib;
mod global;
mod maps;
mod reject;
mod reorder;
mod reset;
mod socket;
mod tc;
mod xdp;

use aya_ebpf::{
    macros::{cgroup_sock_addr, classifier, xdp},
    programs::{SockAddrContext, TcContext, XdpContext},
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
    tc::run_out(&ctx)
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

/// What [`svcproxy_in_any`] leaves to it: fragments that have come in the wrong order.
#[classifier]
fn svcproxy_reorder(ctx: TcContext) -> i32 {
    reorder::run(&ctx)
}

/// An IPv4 socket is about to connect.
#[cgroup_sock_addr(connect4)]
fn svcproxy_conn4(ctx: SockAddrContext) -> i32 {
    socket::lead_v4(&ctx)
}

/// An IPv6 socket is, perhaps to an IPv4 address.
#[cgroup_sock_addr(connect6)]
fn svcproxy_conn6(ctx: SockAddrContext) -> i32 {
    socket::lead_v6(&ctx)
}

/// A datagram is about to be sent to an IPv4 address.
#[cgroup_sock_addr(sendmsg4)]
fn svcproxy_send4(ctx: SockAddrContext) -> i32 {
    socket::lead_v4(&ctx)
}

/// A datagram is about to be sent to an IPv6 address.
#[cgroup_sock_addr(sendmsg6)]
fn svcproxy_send6(ctx: SockAddrContext) -> i32 {
    socket::lead_v6(&ctx)
}

/// An IPv4 socket is told where a datagram came from.
#[cgroup_sock_addr(recvmsg4)]
fn svcproxy_recv4(ctx: SockAddrContext) -> i32 {
    socket::name_v4(&ctx)
}

/// An IPv6 socket is.
#[cgroup_sock_addr(recvmsg6)]
fn svcproxy_recv6(ctx: SockAddrContext) -> i32 {
    socket::name_v6(&ctx)
}

/// An IPv4 socket is told whom it is connected to.
#[cgroup_sock_addr(getpeername4)]
fn svcproxy_peer4(ctx: SockAddrContext) -> i32 {
    socket::name_v4(&ctx)
}

/// An IPv6 socket is.
#[cgroup_sock_addr(getpeername6)]
fn svcproxy_peer6(ctx: SockAddrContext) -> i32 {
    socket::name_v6(&ctx)
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
