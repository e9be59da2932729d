//! The programs of the bench: generators that make the next packet and go on to the program under test, and floors,
//! which do the least that any proxy must do.
//!
//! `BPF_PROG_TEST_RUN` gives a program the same packet each time, as its last run left it. A generator writes the
//! fields that differ from packet to packet, and takes back what the program under test has changed. What it costs
//! itself is seen in front of `empty`.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[path = "../../../../svcproxy-ebpf/src/access.rs"]
#[allow(dead_code, reason = "svcproxy's programs ask a frame for more")]
mod access;
mod control;
mod family;
mod floor;
mod generator;
mod tables;

use aya_ebpf::{
    bindings::{TC_ACT_UNSPEC, xdp_action},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use family::{V4, V6};

/// Makes IPv4 packets.
#[xdp(frags)]
fn generate_xdp_v4(ctx: XdpContext) -> u32 {
    generator::xdp::<V4>(&ctx)
}

/// Makes IPv6 packets.
#[xdp(frags)]
fn generate_xdp_v6(ctx: XdpContext) -> u32 {
    generator::xdp::<V6>(&ctx)
}

/// Makes IPv4 packets.
#[classifier]
fn generate_tc_v4(ctx: TcContext) -> i32 {
    generator::tc::<V4>(&ctx)
}

/// Makes IPv6 packets.
#[classifier]
fn generate_tc_v6(ctx: TcContext) -> i32 {
    generator::tc::<V6>(&ctx)
}

/// Nothing at all.
#[xdp(frags)]
fn empty_xdp(_: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

/// Nothing at all.
#[classifier]
fn empty_tc(_: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// Sends the packet by the interface that the bench names.
#[xdp(frags)]
fn send_xdp(ctx: XdpContext) -> u32 {
    generator::send(&ctx)
}

/// Reads the headers and sends the packet back.
#[xdp(frags)]
fn parse_xdp_v4(ctx: XdpContext) -> u32 {
    floor::parse_xdp::<V4>(&ctx)
}

/// Reads the headers and sends the packet back.
#[xdp(frags)]
fn parse_xdp_v6(ctx: XdpContext) -> u32 {
    floor::parse_xdp::<V6>(&ctx)
}

/// Reads the headers and lets the packet go on.
#[classifier]
fn parse_tc_v4(ctx: TcContext) -> i32 {
    floor::parse_tc::<V4>(&ctx)
}

/// Reads the headers and lets the packet go on.
#[classifier]
fn parse_tc_v6(ctx: TcContext) -> i32 {
    floor::parse_tc::<V6>(&ctx)
}

/// Translates packets of connections that are there.
#[xdp(frags)]
fn nat_xdp_v4(ctx: XdpContext) -> u32 {
    floor::nat_xdp::<V4>(&ctx)
}

/// Translates packets of connections that are there.
#[xdp(frags)]
fn nat_xdp_v6(ctx: XdpContext) -> u32 {
    floor::nat_xdp::<V6>(&ctx)
}

/// Translates packets of connections that are there.
#[classifier]
fn nat_tc_v4(ctx: TcContext) -> i32 {
    floor::nat_tc::<V4>(&ctx)
}

/// Translates packets of connections that are there.
#[classifier]
fn nat_tc_v6(ctx: TcContext) -> i32 {
    floor::nat_tc::<V6>(&ctx)
}

/// Opens a connection with each packet.
#[xdp(frags)]
fn open_xdp_v4(ctx: XdpContext) -> u32 {
    floor::open_xdp::<V4>(&ctx)
}

/// Opens a connection with each packet.
#[xdp(frags)]
fn open_xdp_v6(ctx: XdpContext) -> u32 {
    floor::open_xdp::<V6>(&ctx)
}

/// Opens a connection with each packet.
#[classifier]
fn open_tc_v4(ctx: TcContext) -> i32 {
    floor::open_tc::<V4>(&ctx)
}

/// Opens a connection with each packet.
#[classifier]
fn open_tc_v6(ctx: TcContext) -> i32 {
    floor::open_tc::<V6>(&ctx)
}

/// The helpers that fix checksums are open to GPL-compatible programs only.
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
