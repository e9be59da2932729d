//! x
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
use aya_ebpf::{
    btf_maps::HashMap,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use svcproxy_common::*;
#[btf_map(name = "services_v4")]
static S4: HashMap<Key<V4>, u64, 16> = HashMap::new();
/// p
#[xdp]
pub fn svcproxy_xdp(ctx: XdpContext) -> u32 {
    let k = Key {
        addr: V4([10, 0, 0, 1]),
        port: 80,
        proto: Proto::TCP,
    };
    let _ = S4.insert(&k, &5, 0);
    2
}
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
#[cfg(not(target_arch = "bpf"))]
fn main() {}
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
