//! Fragments that come before the first of their datagram, which alone says whose they are: RFC 791 promises no order,
//! and a network with several paths keeps none.
//!
//! In comes the skb of such a fragment: a copy of it is kept, and it goes on untouched, since it may be none of ours. Or
//! in comes the skb of the first, which turned out to be ours: it and all that have been kept come in again, in this
//! order, by the interface it came by. What is kept for longer than [`PATIENCE`] is forgotten: numbers come round again.

use aya_ebpf::{
    bindings::{
        BPF_ANY, BPF_F_INGRESS, BPF_F_INVALIDATE_HASH, BPF_F_RECOMPUTE_CSUM, BPF_NOEXIST, TC_ACT_SHOT, TC_ACT_UNSPEC,
    },
    btf_maps::{LruHashMap, PerCpuArray},
    helpers::{bpf_clone_redirect, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes},
    macros::btf_map,
    programs::TcContext,
};
use network_types::eth::{EthHdr, EtherType};
use svcproxy_common::{
    Packet as _, Reason, Tables,
    abi::{Address, FragmentKey},
    family::{Family, Piece, V4, V6},
    flow, policy, transport,
    verifier::{close_loop, length_within},
    wire::Ethernet,
};

use crate::{
    clock,
    maps::{Maps, Successor},
    tc::{self, TcPacket},
    xdp::MARKED,
};

/// Longest frame that is kept, bytes: Ethernet's, with a little room for tags.
const LONGEST: usize = 1528;
/// Fragments kept of a datagram: 64 kB in Ethernet's frames.
const PIECES: u32 = 45;
/// Fragments kept in all.
const KEPT: usize = 1024;
/// For so many seconds. The longest that paths differ is far below one.
const PATIENCE: u32 = 2;

/// Where a fragment is kept. Both families have room in it.
#[repr(C)]
struct Place {
    src: [u32; 4],
    dst: [u32; 4],
    identification: u32,
    protocol: u32,
    family: u32,
    /// Which of the datagram's, in the order they came.
    index: u32,
}

/// A fragment that is kept.
#[repr(C)]
struct Kept {
    /// Since this second of CLOCK_MONOTONIC.
    second: u32,
    /// Length of the frame, bytes.
    length: u32,
    frame: [u8; LONGEST],
}

#[btf_map(name = "early_fragments")]
static EARLY: LruHashMap<Place, Kept, KEPT> = LruHashMap::new();

/// What is kept next: there is no room for it on the stack.
#[btf_map(name = "early_fragment")]
static NEXT: PerCpuArray<Kept, 1> = PerCpuArray::new();

impl Place {
    /// The first place of a datagram's.
    #[inline(always)]
    fn first<A: Address>(key: &FragmentKey<A>) -> Self {
        Self {
            src: key.src.fib(),
            dst: key.dst.fib(),
            identification: key.identification,
            protocol: key.protocol as u32,
            family: A::AF.into(),
            index: 0,
        }
    }

    /// What is kept there.
    #[inline(always)]
    fn get(&self) -> Option<&Kept> {
        // SAFETY: the kernel may reuse the slot, in which case a fragment is mistaken for another, as if the network had
        // mangled it; checksums are for that.
        unsafe { EARLY.get(self) }
    }
}

impl Kept {
    #[inline(always)]
    fn is_fresh(&self) -> bool {
        flow::age(self.second, clock::now()) <= PATIENCE
    }
}

/// Whether there are fragments of a datagram that have come before the first.
#[inline(always)]
pub(crate) fn is_waited_for<A: Address>(key: &FragmentKey<A>) -> bool {
    Place::first(key).get().is_some_and(Kept::is_fresh)
}

/// Whether the skb has come in again, which is told by a mark that is taken off here.
#[inline(always)]
pub(crate) fn comes_again(ctx: &TcContext) -> bool {
    // SAFETY: the skb of the running program.
    let again = unsafe { (*ctx.skb.skb).mark } == MARKED;
    if again {
        ctx.set_mark(0);
    }
    again
}

/// Keeps a fragment, or lets a first one and all that are kept come in again.
#[inline(always)]
pub(crate) fn run(ctx: &TcContext) -> i32 {
    const IPV4: u16 = EtherType::Ipv4 as u16;
    const IPV6: u16 = EtherType::Ipv6 as u16;

    let packet = TcPacket::<true, false>::new(ctx);
    let Some(ethernet) = packet.at::<Ethernet>(0) else {
        return TC_ACT_UNSPEC;
    };
    let done = match ethernet.ethertype.get() {
        _ if packet.tagged() => None,
        IPV4 => sort::<V4>(ctx, &packet),
        IPV6 => sort::<V6>(ctx, &packet),
        _ => None,
    };
    done.unwrap_or(TC_ACT_UNSPEC)
}

#[inline(always)]
fn sort<F: Family>(ctx: &TcContext, packet: &TcPacket<'_, true, false>) -> Option<i32>
where
    Maps: Tables<F::Address>,
{
    let header: &F::Header = packet.at(EthHdr::LEN)?;
    let datagram = F::read(packet, header, EthHdr::LEN).ok()?;
    let (src, dst) = F::addresses(header);
    let key = FragmentKey {
        src,
        dst,
        identification: datagram.identification,
        protocol: transport::protocol(datagram.protocol),
    };
    match datagram.piece {
        Piece::Whole => None,
        Piece::First => Some(replay(ctx, Place::first(&key))),
        Piece::Later => keep(ctx, &key),
    }
}

/// Keeps a copy. The fragment goes on, unless it is for the service range.
#[inline(always)]
fn keep<A: Address>(ctx: &TcContext, key: &FragmentKey<A>) -> Option<i32>
where
    Maps: Tables<A>,
{
    keep_copy(ctx, key).or_else(|| match policy::stray(&Maps, &key.dst, Reason::Fragment) {
        Reason::Stray => {
            let _ = Maps::counted::<()>(Err(Reason::Stray));
            Some(TC_ACT_SHOT)
        }
        _ => None,
    })
}

#[inline(always)]
fn keep_copy<A: Address>(ctx: &TcContext, key: &FragmentKey<A>) -> Option<i32>
where
    Maps: Tables<A>,
{
    let length = length_within(ctx.len(), LONGEST)?;
    // SAFETY: this CPU's own slot, and programs of this type do not nest on one CPU.
    let next = unsafe { &mut *NEXT.get_ptr_mut(0)? };
    next.second = clock::now();
    next.length = length;
    // SAFETY: the skb of the running program, and as many bytes as there is room for.
    if unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), 0, next.frame.as_mut_ptr().cast(), length) } != 0 {
        return None;
    }
    let mut place = Place::first(key);
    for index in 0..PIECES {
        place.index = index;
        let flags = match place.get() {
            None => BPF_NOEXIST, // nor may another processor take it
            Some(kept) if !kept.is_fresh() => BPF_ANY,
            Some(_) => {
                close_loop();
                continue;
            }
        };
        if EARLY.insert(&place, &*next, flags.into()).is_ok() {
            break;
        }
        close_loop();
    }
    // The first may have come on another processor since it was looked for, and have looked here in vain.
    if Maps.fragment(key).is_some() && EARLY.remove(&place).is_ok() {
        return Some(tc::defer(ctx, Successor::In));
    }
    None
}

/// Lets the first fragment and all that are kept come in again. The skb becomes each of them.
#[inline(always)]
fn replay(ctx: &TcContext, mut place: Place) -> i32 {
    let skb = ctx.skb.skb;
    ctx.set_mark(MARKED);
    // SAFETY: the skb of the running program.
    let again = || unsafe { bpf_clone_redirect(skb, (*skb).ifindex, BPF_F_INGRESS.into()) };
    again();
    for index in 0..PIECES {
        place.index = index;
        let Some(kept) = place.get() else {
            break;
        };
        let fresh = kept.is_fresh();
        let Some(length) = length_within(kept.length, LONGEST) else {
            break;
        };
        let flags = (BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH).into();
        // SAFETY: the skb of the running program, and bytes of a map.
        let changed = fresh
            && unsafe {
                bpf_skb_change_tail(skb, length, 0) == 0
                    && bpf_skb_store_bytes(skb, 0, kept.frame.as_ptr().cast(), length, flags) == 0
            };
        if changed {
            again();
        }
        // Another processor may have removed it.
        let _ = EARLY.remove(&place);
        close_loop();
    }
    TC_ACT_SHOT
}
