//! An skb may come with the sum that the hardware computed over it (CHECKSUM_COMPLETE). Whoever changes the packet
//! must keep that true, or the kernel takes the hardware for broken ("hw csum failure").

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use svcproxy::datapath::{Datapath, links::Hook};
use svcproxy_common::abi::Protocol::{TCP, UDP};

use crate::{
    cluster::service,
    model::{Frame, Ip, judge, pieces, sockets, tcp, udp},
    world::world,
};

/// The part of `union bpf_attr` that `BPF_PROG_TEST_RUN` takes (linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// Runs a tc program on an skb with a sum, and has the kernel compare the sum afterwards (Linux 6.16).
fn run(datapath: &mut Datapath, hook: Hook, frame: &[u8]) -> io::Result<Vec<u8>> {
    const BPF_PROG_TEST_RUN: i32 = 10;
    const BPF_F_TEST_SKB_CHECKSUM_COMPLETE: u32 = 1 << 2;

    let program = if hook == Hook::TcOut {
        "svcproxy_out"
    } else {
        "svcproxy_in"
    };
    let mut out = vec![0; frame.len()];
    let attributes = TestRun {
        prog_fd: datapath.tc(program).unwrap().fd().unwrap().as_fd().as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_size_out: out.len() as u32,
        data_in: frame.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        repeat: 1,
        flags: BPF_F_TEST_SKB_CHECKSUM_COMPLETE,
        ..TestRun::default()
    };
    // SAFETY: `attributes` lives across the call and points at buffers of the sizes it gives.
    let result = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_bpf,
            BPF_PROG_TEST_RUN,
            &raw const attributes,
            size_of::<TestRun>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(out)
    }
}

#[test]
fn the_hardware_s_sum_stays_true() {
    let mut world = world();
    for ip in Ip::ALL {
        let frames: [(_, fn(_, _) -> Frame); 3] = [
            (TCP, |src, dst| tcp(src, dst, "S")),
            (UDP, udp),
            (UDP, |src, dst| udp(src, dst).without_checksum()),
        ];
        for (protocol, frame) in frames {
            for target in [80, 8080] {
                let (client, vip, pod) = (ip.client(1, 5000), ip.vip(1, 80), ip.pod(1, target));
                world.forget();
                world.serve(&[service("web", None, &[(protocol, vip, &[pod])])]);
                for hook in [Hook::TcIn, Hook::TcOut] {
                    for (packet, src, dst) in [(frame(client, vip), client, pod), (frame(pod, client), vip, client)] {
                        // Frames of such a run come in by the loopback, whose hardware address is all zeros.
                        let mut packet = packet.bytes();
                        packet[..6].fill(0);
                        let out = run(&mut world.datapath, hook, &packet)
                            .unwrap_or_else(|error| panic!("{ip:?} {protocol} {hook} {target}: {error}"));
                        assert_eq!(sockets(&out), (src, dst));
                        judge::assert_valid(&out);
                        // And of an error about it, on its way back.
                        let kind = if ip == Ip::V4 { (3, 4) } else { (2, 0) };
                        let mut error = pieces::error(ip.router(), kind, 1280, &out, 20);
                        error[..6].fill(0);
                        let out = run(&mut world.datapath, hook, &error)
                            .unwrap_or_else(|error| panic!("ICMP, {ip:?} {protocol} {hook} {target}: {error}"));
                        assert_eq!(sockets(&pieces::quoted(&out)), sockets(&packet));
                    }
                }
            }
        }
    }
}
