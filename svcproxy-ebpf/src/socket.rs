//! Sockets of the node's own processes, at the cgroup hooks: an address goes in that a process has given or is to be
//! told, and is changed in place. What it becomes is in `svcproxy_common::socket`.
//!
//! Pods are in the same cgroups and have network namespaces of their own: their sockets, and all others that are not
//! in the daemon's namespace, are left alone.

use aya_ebpf::{
    EbpfContext as _, Global,
    helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval},
    programs::SockAddrContext,
};
use svcproxy_common::{
    Fate, Tables,
    abi::{Address, Protocol, V4Addr, V6Addr},
    socket::{self, Socket},
};

use crate::{clock, maps::Maps};

/// The kernel's number of the network namespace whose sockets are the node's (`SO_NETNS_COOKIE`); no namespace has 0.
#[unsafe(no_mangle)]
static NETNS_COOKIE: Global<u64> = Global::new(0);

/// Verdicts of these hooks.
const ALLOW: i32 = 1;
const REFUSE: i32 = 0;

/// Error numbers of a refusal (include/uapi/asm-generic/errno.h).
const EPERM: i32 = 1;
const ETIMEDOUT: i32 = 110;
const ECONNREFUSED: i32 = 111;

/// What `::ffff:a.b.c.d` begins with, in words as stored: an IPv4 address in an IPv6 socket (RFC 4291, 2.5.5.2).
const MAPPED: [u32; 3] = [0, 0, 0xffff_u32.to_be()];

/// Leads an IPv4 socket to an endpoint, if it is a Service that it wants to reach.
#[inline(always)]
pub(crate) fn lead_v4(ctx: &SockAddrContext) -> i32 {
    lead(ctx, address_v4(ctx), |endpoint| set_address_v4(ctx, endpoint))
}

/// The same for an IPv6 socket, which may want to reach an IPv4 address.
#[inline(always)]
pub(crate) fn lead_v6(ctx: &SockAddrContext) -> i32 {
    match address_v6(ctx) {
        Ip::V4(address) => lead(ctx, address, |endpoint| set_address_v6(ctx, mapped(endpoint))),
        Ip::V6(address) => lead(ctx, address, |endpoint| set_address_v6(ctx, endpoint.fib())),
    }
}

/// Tells an IPv4 socket the Service's address in place of the endpoint's.
#[inline(always)]
pub(crate) fn name_v4(ctx: &SockAddrContext) -> i32 {
    name(ctx, address_v4(ctx), |service| set_address_v4(ctx, service))
}

/// The same for an IPv6 socket, whose peer may have an IPv4 address.
#[inline(always)]
pub(crate) fn name_v6(ctx: &SockAddrContext) -> i32 {
    match address_v6(ctx) {
        Ip::V4(address) => name(ctx, address, |service| set_address_v6(ctx, mapped(service))),
        Ip::V6(address) => name(ctx, address, |service| set_address_v6(ctx, service.fib())),
    }
}

#[inline(always)]
fn lead<A>(ctx: &SockAddrContext, address: A, write: impl FnOnce(A)) -> i32
where
    A: Address,
    Maps: Tables<A>,
{
    let Some(protocol) = protocol(ctx) else {
        return ALLOW;
    };
    let socket = Socket {
        cookie: cookie(ctx),
        protocol,
        address,
        port: port(ctx),
    };
    match socket::connect(&Maps, &socket, clock::now()) {
        Ok((address, port)) => {
            write(address);
            set_port(ctx, port);
            ALLOW
        }
        // Not counted: the process is told, and `reasons` are of packets.
        Err(reason) => match (reason.fate(), protocol) {
            (Fate::Pass | Fate::Defer, _) => ALLOW,
            (Fate::Reject, _) => refuse(ECONNREFUSED),
            // What a SYN that is dropped ends in, without the two minutes until then.
            (Fate::Drop, Protocol::TCP) => refuse(ETIMEDOUT),
            // What sendto(2) says of a datagram that netfilter drops.
            (Fate::Drop, _) => refuse(EPERM),
        },
    }
}

#[inline(always)]
fn name<A>(ctx: &SockAddrContext, address: A, write: impl FnOnce(A)) -> i32
where
    A: Address,
    Maps: Tables<A>,
{
    if protocol(ctx).is_some()
        && let Some((address, port)) = socket::peer(&Maps, cookie(ctx), address, port(ctx))
    {
        write(address);
        set_port(ctx, port);
    }
    ALLOW
}

/// The protocol of a socket that is the node's; `None` when it is not, or can reach no Service.
#[inline(always)]
fn protocol(ctx: &SockAddrContext) -> Option<Protocol> {
    // SAFETY: the context of the running program.
    let protocol = match unsafe { (*ctx.sock_addr).protocol } {
        6 => Protocol::TCP,
        17 => Protocol::UDP,
        _ => return None,
    };
    // SAFETY: as above; the helper reads the socket's namespace.
    let namespace = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    (namespace == NETNS_COOKIE.load()).then_some(protocol)
}

#[inline(always)]
fn cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the context of the running program; the helper reads the socket's number, or gives it one.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// Refuses with an error number (the helper: Linux 5.18).
#[inline(always)]
fn refuse(error: i32) -> i32 {
    // SAFETY: the helper takes a number and keeps it for the running system call.
    unsafe { bpf_set_retval(-error) };
    REFUSE
}

/// What an IPv6 socket may be connected to.
enum Ip {
    V4(V4Addr),
    V6(V6Addr),
}

#[inline(always)]
fn address_v4(ctx: &SockAddrContext) -> V4Addr {
    // SAFETY: the context of the running program, at a hook of IPv4.
    V4Addr::from_fib([unsafe { (*ctx.sock_addr).user_ip4 }, 0, 0, 0])
}

#[inline(always)]
fn set_address_v4(ctx: &SockAddrContext, address: V4Addr) {
    let [word, ..] = address.fib();
    // SAFETY: as above; the hook takes the address from there.
    unsafe { (&raw mut (*ctx.sock_addr).user_ip4).write_volatile(word) }
}

#[inline(always)]
fn address_v6(ctx: &SockAddrContext) -> Ip {
    // SAFETY: the context of the running program, at a hook of IPv6. A word at a time: the verifier knows no more.
    let word = |index: usize| unsafe { (&raw const (*ctx.sock_addr).user_ip6[index]).read_volatile() };
    let words = [word(0), word(1), word(2), word(3)];
    match words {
        [a, b, c, word] if [a, b, c] == MAPPED => Ip::V4(V4Addr::from_fib([word, 0, 0, 0])),
        words => Ip::V6(V6Addr::from_fib(words)),
    }
}

#[inline(always)]
fn set_address_v6(ctx: &SockAddrContext, words: [u32; 4]) {
    for (index, word) in words.into_iter().enumerate() {
        // SAFETY: as above; the hook takes the address from there.
        unsafe { (&raw mut (*ctx.sock_addr).user_ip6[index]).write_volatile(word) }
    }
}

/// An IPv4 address as an IPv6 socket has it.
#[inline(always)]
fn mapped(address: V4Addr) -> [u32; 4] {
    let [word, ..] = address.fib();
    let [a, b, c] = MAPPED;
    [a, b, c, word]
}

#[inline(always)]
fn port(ctx: &SockAddrContext) -> u16 {
    // SAFETY: the context of the running program. The port is in network byte order, in the first two bytes.
    u16::from_be(unsafe { (*ctx.sock_addr).user_port } as u16)
}

#[inline(always)]
fn set_port(ctx: &SockAddrContext, port: u16) {
    // SAFETY: as above; the hook takes the port from there.
    unsafe { (&raw mut (*ctx.sock_addr).user_port).write_volatile(port.to_be().into()) }
}
