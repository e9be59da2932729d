//! TCP reset: what a client gets whose endpoint cannot be reached any more, so that its connection ends at once.
//!
//! In comes the skb of a segment to a Service, out it goes as the reset that answers it (RFC 9293, section 3.10.7.1): cut
//! down to its headers and turned round.

use core::mem::offset_of;

use aya_ebpf::{
    bindings::BPF_F_PSEUDO_HDR,
    helpers::{bpf_l4_csum_replace, bpf_skb_change_tail},
    programs::TcContext,
};
use network_types::{eth::EthHdr, ip::IpProto};
use svcproxy_common::{
    checksum,
    family::{V4, V6},
    wire::Tcp,
};

use crate::{
    access::Frame,
    answer::{self, Answer, Version},
};

const TCP: u8 = IpProto::Tcp as u8;
const LENGTH: u16 = size_of::<Tcp>() as u16;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Turns the skb into the reset and sends it, or drops it where none is due.
#[inline(never)]
pub(crate) fn reset(ctx: &TcContext) -> i32 {
    answer::send(
        ctx,
        match answer::family(ctx) {
            Some(Version::V4) => turn::<V4>(ctx),
            Some(Version::V6) => turn::<V6>(ctx),
            None => None,
        },
    )
}

#[inline(always)]
fn turn<F: Answer>(ctx: &TcContext) -> Option<()> {
    let transport = EthHdr::LEN + size_of::<F::Header>();
    let frame = Frame::new(ctx.data(), ctx.data_end());
    let ip: &F::Header = frame.at(EthHdr::LEN)?;
    let segment: &Tcp = frame.at(transport)?;
    // Only what acknowledges something says which sequence number its sender will believe.
    if !F::leads(ip, TCP) || segment.flags.get() & (RST | ACK) != ACK {
        return None;
    }
    let (client, service) = F::addresses(ip);
    let (client_port, service_port) = (segment.ports.src.get(), segment.ports.dst.get());
    let sequence = segment.acknowledgment.get();
    let old = segment.checksum.get();
    let old_length = F::length(ip).wrapping_sub(size_of::<F::Header>()) as u16;
    // SAFETY: the skb of the running program.
    if unsafe { bpf_skb_change_tail(ctx.skb.skb, (transport + size_of::<Tcp>()) as u32, 0) } != 0 {
        return None;
    }

    let frame = Frame::new(ctx.data(), ctx.data_end());
    answer::turn_round(&frame)?;
    F::write(frame.at(EthHdr::LEN)?, TCP, service, client, LENGTH);
    let segment: &Tcp = frame.at(transport)?;
    segment.ports.src.set(service_port);
    segment.ports.dst.set(client_port);
    segment.sequence.set(sequence);
    segment.acknowledgment.set(0);
    segment.data_offset.set(((LENGTH / 4) << 4) as u8);
    segment.flags.set(RST);
    segment.window.set(0);
    segment.urgent.set(0);

    // In a CHECKSUM_PARTIAL skb the field holds the sum of the pseudo-header alone, of which only the length has
    // changed. In others all has, and the second call, which the first kind ignores, brings it to what it must be.
    let words = u32::from(client_port)
        + u32::from(service_port)
        + (sequence & 0xffff)
        + (sequence >> 16)
        + u32::from(u16::from_be_bytes([((LENGTH / 4) << 4) as u8, RST]).to_be());
    let new = !checksum::fold(words + answer::pseudo_header(TCP, service, client, LENGTH));
    let length_delta = checksum::delta(old_length.to_be().into(), LENGTH.to_be().into());
    let rest_delta = checksum::combine(!new, checksum::update(old, length_delta.into()));
    let offset = (transport + offset_of!(Tcp, checksum)) as u32;
    for (delta, flags) in [(length_delta, BPF_F_PSEUDO_HDR.into()), (rest_delta, 0)] {
        // SAFETY: the skb of the running program; the helper checks the offset. Length 0: the value is the difference.
        if unsafe { bpf_l4_csum_replace(ctx.skb.skb, offset, 0, delta.into(), flags) } != 0 {
            return None;
        }
    }
    Some(())
}
