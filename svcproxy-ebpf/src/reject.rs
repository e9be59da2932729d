//! ICMP errors: "port unreachable" is what a client gets from a Service without endpoints, so that its connect() fails
//! at once; "too big" what path MTU discovery lives on.
//!
//! In comes the skb of the refused packet, out it goes as the answer: cut down to what is quoted, new headers before
//! it, and back through the interface it came by. XDP leaves this to tc, see `xdp.rs`.

use aya_ebpf::{
    bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    btf_maps::PerCpuArray,
    helpers::{bpf_csum_diff, bpf_skb_change_tail},
    macros::btf_map,
    programs::TcContext,
};
use network_types::eth::EthHdr;
use svcproxy_common::{
    checksum,
    family::{V4, V6},
    wire::Icmp,
};

use crate::{
    access::Frame,
    answer::{self, Answer, Version},
    clock, tc,
};

/// What is quoted behind the IP header: ports and a little more (RFC 792), or all of a TCP header, because an skb whose
/// checksum is left to the hardware cannot be cut off before that field.
const QUOTED: [usize; 2] = [8, 20];
/// Answers a second on each processor, as many as the kernel sends in all (`net.ipv4.icmp_msgs_per_sec`).
const LIMIT: u32 = 1000;

/// How many answers this processor has sent.
#[repr(C)]
struct Budget {
    /// In this second of CLOCK_MONOTONIC.
    second: u32,
    /// So many.
    sent: u32,
}

#[btf_map(name = "reject_budget")]
static BUDGET: PerCpuArray<Budget, 1> = PerCpuArray::new();

/// Tells the sender that nobody is there.
#[inline(always)]
pub(crate) fn port_unreachable(ctx: &TcContext) -> i32 {
    reject(ctx, 0)
}

/// Notes what IP packets get through, in bytes, where tc's programs keep their notes on an skb.
#[inline(always)]
pub(crate) fn note_mtu(ctx: &TcContext, mtu: u16) {
    // SAFETY: the context of the running program.
    unsafe { (*ctx.skb.skb).cb[0] = mtu.into() };
}

/// Tells the sender the noted MTU.
#[inline(always)]
pub(crate) fn too_big(ctx: &TcContext) -> i32 {
    // SAFETY: as above.
    reject(ctx, unsafe { (*ctx.skb.skb).cb[0] } as u16)
}

/// Turns the skb into the answer, "too big" when there is an `mtu`, and sends it, or drops it where no answer is due.
#[inline(never)]
fn reject(ctx: &TcContext, mtu: u16) -> i32 {
    let answered = match tc::pull(ctx).ok().and_then(|()| answer::family(ctx)) {
        Some(Version::V4) => refuse::<V4>(ctx, mtu),
        Some(Version::V6) => refuse::<V6>(ctx, mtu),
        None => None,
    };
    answer::send(ctx, answered)
}

#[inline(always)]
fn refuse<F: Answer>(ctx: &TcContext, mtu: u16) -> Option<()> {
    let frame = Frame::new(ctx.data(), ctx.data_end());
    let refused: &F::Header = frame.at(EthHdr::LEN)?;
    let (client, service) = F::addresses(refused);
    let header_len = size_of::<F::Header>();
    let quoted = match F::length(refused) {
        length if length >= header_len + QUOTED[1] => header_len + QUOTED[1],
        length if length >= header_len + QUOTED[0] => header_len + QUOTED[0],
        _ => return None,
    };
    // Of ICMP only an echo request is answered: an error never is (RFC 1122, section 3.2.2; RFC 4443, section 2.4).
    if F::protocol(refused) == F::ICMP {
        let icmp: &Icmp = frame.at(EthHdr::LEN + header_len)?;
        if !F::leads(refused, F::ICMP) || icmp.kind.get() != F::ECHO {
            return None;
        }
    }
    if !F::answerable(refused) || !within_budget() {
        return None;
    }
    let headers = header_len + size_of::<Icmp>();
    // SAFETY: the skb of the running program.
    let cut = unsafe { bpf_skb_change_tail(ctx.skb.skb, (EthHdr::LEN + quoted) as u32, 0) };
    if cut != 0 || ctx.adjust_room(headers as i32, BPF_ADJ_ROOM_MAC, 0).is_err() {
        return None;
    }

    let frame = Frame::new(ctx.data(), ctx.data_end());
    answer::turn_round(&frame)?;
    let ip: &F::Header = frame.at(EthHdr::LEN)?;
    F::write(ip, F::ICMP, service, client, (size_of::<Icmp>() + quoted) as u16);
    let offset = EthHdr::LEN + size_of::<F::Header>();
    let icmp: &Icmp = frame.at(offset)?;
    let (kind, code) = if mtu == 0 { F::UNREACHABLE } else { F::TOO_BIG };
    icmp.kind.set(kind);
    icmp.code.set(code);
    icmp.checksum.set(0);
    icmp.rest.set(u32::from(mtu).to_be());
    // The verifier wants lengths that it knows.
    let sum = match quoted == header_len + QUOTED[1] {
        true => sum(&frame, offset, size_of::<Icmp>() + header_len + QUOTED[1]),
        false => sum(&frame, offset, size_of::<Icmp>() + header_len + QUOTED[0]),
    };
    let sum = sum? + F::icmp_pseudo_header(service, client, (size_of::<Icmp>() + quoted) as u16);
    icmp.checksum.set(!checksum::fold(sum));
    Some(())
}

/// The sum of `length` bytes as 16-bit words.
#[inline(always)]
fn sum(frame: &Frame, offset: usize, length: usize) -> Option<u32> {
    let bytes = frame.bytes(offset, length)?;
    // SAFETY: that many bytes are in the packet; nothing is subtracted.
    let sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, bytes.cast_mut().cast(), length as u32, 0) };
    u32::try_from(sum).ok().map(|sum| checksum::fold(sum).into())
}

/// Counts an answer; false when this second's are used up.
#[inline(always)]
fn within_budget() -> bool {
    let Some(budget) = BUDGET.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own slot, and programs of this type do not nest on one CPU.
    let budget = unsafe { &mut *budget };
    let now = clock::now();
    if budget.second != now {
        budget.second = now;
        budget.sent = 0;
    }
    budget.sent += 1;
    budget.sent <= LIMIT
}
