//! Steps of the decision code as global functions. The verifier checks such a function once, by itself, for all that its
//! parameters' types allow, and then believes every call of it (Linux 5.6). Any other function it follows again from each
//! state of its caller, and what comes after the call again for each way through the function.
//!
//! They are cold: LLVM then gives registers to the packets of connections that are there.
//!
//! The types are what BTF says: the context, pointers to values, numbers; what comes back is a number. To the verifier a
//! pointer may be null. Before Linux 6.2 a pointer from a parameter is no key of a map (`resolve_func_arg_reg_types`), so
//! each step copies the keys it is given to per-CPU scratch. Names are those of symbols, and so of functions in `bpftool prog dump`.

use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    btf_maps::PerCpuArray,
    macros::btf_map,
    programs::{TcContext, XdpContext},
};
use svcproxy_common::{
    Reason,
    abi::{FlowKey, V4Addr, V6Addr},
    connection::{self, Attended},
    crc32c,
    flow::TcpFlags,
    ports,
    verifier::barrier,
};

use crate::{
    fib::{self, Answer},
    maps::Maps,
    tc::TcPacket,
    xdp::XdpPacket,
};

/// Calls the function of an address's family. Pointers to what is of that family are cast to themselves.
macro_rules! by_family {
    ($address:ty, $v4:ident, $v6:ident, ($context:expr, $key:expr, $($number:expr),+)) => {{
        let key = &raw const *$key;
        match <$address as svcproxy_common::abi::Address>::AF == svcproxy_common::abi::V4Addr::AF {
            true => crate::global::$v4($context, key.cast(), $($number),+),
            false => crate::global::$v6($context, key.cast(), $($number),+),
        }
    }};
}
pub(crate) use by_family;

/// Places in the scratch for keys.
const KEY: u32 = 0;
const REPLY_KEY: u32 = 1;

/// What a step has come to, from the number that it returns.
#[inline(always)]
pub(crate) fn result(reason: Reason) -> Result<(), Reason> {
    match reason {
        Reason::Translated => Ok(()),
        reason => Err(reason),
    }
}

/// The number of what a step has come to: [`Reason::Translated`] when the packet is to be translated.
#[inline(always)]
fn reason(result: Result<(), Reason>) -> Reason {
    result.err().unwrap_or(Reason::Translated)
}

macro_rules! steps {
    ($address:ty: $choose:ident, $is_vacant:ident, $keys:literal, $KEYS:ident, $copy:ident) => {
        /// Per-CPU scratch: the packet's key, and that of its replies.
        #[btf_map(name = $keys)]
        static $KEYS: PerCpuArray<FlowKey<$address>, 2> = PerCpuArray::new();

        /// A copy of the key in the scratch at `index`; `None` for a null pointer. A step that another step calls may copy
        /// the same key to the same place.
        #[inline(always)]
        fn $copy(index: u32, key: *const FlowKey<$address>) -> Option<&'static FlowKey<$address>> {
            // SAFETY: null, or what the verifier has found to be readable.
            let key = unsafe { key.as_ref() }?;
            let copy = barrier($KEYS.get_ptr_mut(index)?);
            // SAFETY: this CPU's own slot; programs of these types do not nest on one CPU.
            unsafe {
                copy.write(*key);
                Some(&*copy)
            }
        }

        /// [`connection::choose`]
        #[unsafe(no_mangle)]
        #[cold]
        #[inline(never)]
        pub(crate) extern "C" fn $choose(key: *const FlowKey<$address>, now: u32) -> Reason {
            let Some(key) = $copy(KEY, key) else {
                return Reason::NotAService;
            };
            reason(connection::choose(&Maps, key, now))
        }

        /// [`ports::is_vacant`]
        #[unsafe(no_mangle)]
        #[cold]
        #[inline(never)]
        pub(crate) extern "C" fn $is_vacant(
            reply_key: *const FlowKey<$address>,
            key: *const FlowKey<$address>,
            now: u32,
        ) -> bool {
            match ($copy(REPLY_KEY, reply_key), $copy(KEY, key)) {
                (Some(reply_key), Some(key)) => ports::is_vacant(&Maps, reply_key, key, now),
                _ => false,
            }
        }
    };
    ($address:ty, $raw:ty, $context:ty, $packet:ty: $attend:ident, $open:ident, $copy:ident) => {
        /// [`connection::attend`]
        #[unsafe(no_mangle)]
        #[cold]
        #[inline(never)]
        pub(crate) extern "C" fn $attend(
            ctx: *mut $raw,
            key: *const FlowKey<$address>,
            flags: u8,
            in_flows: bool,
            routed: bool,
        ) -> Attended {
            let Some(key) = $copy(KEY, key) else {
                return Attended::Stray;
            };
            let ctx = <$context>::new(ctx);
            connection::attend(
                &<$packet>::new(&ctx),
                &Maps,
                key,
                TcpFlags(flags),
                in_flows,
                routed,
            )
        }

        /// [`connection::open`]
        #[unsafe(no_mangle)]
        #[cold]
        #[inline(never)]
        pub(crate) extern "C" fn $open(ctx: *mut $raw, key: *const FlowKey<$address>, now: u32, ended: bool) -> Reason {
            let Some(key) = $copy(KEY, key) else {
                return Reason::NotAService;
            };
            let ctx = <$context>::new(ctx);
            reason(connection::open(&<$packet>::new(&ctx), &Maps, key, now, ended))
        }
    };
}

steps!(V4Addr: choose_v4, is_vacant_v4, "keys_v4", KEYS_V4, copy_v4);
steps!(V6Addr: choose_v6, is_vacant_v6, "keys_v6", KEYS_V6, copy_v6);
steps!(V4Addr, xdp_md, XdpContext, XdpPacket<'_>: attend_v4_xdp, open_v4_xdp, copy_v4);
steps!(V6Addr, xdp_md, XdpContext, XdpPacket<'_>: attend_v6_xdp, open_v6_xdp, copy_v6);
steps!(V4Addr, __sk_buff, TcContext, TcPacket<'_, true, true>: attend_v4_tc, open_v4_tc, copy_v4);
steps!(V6Addr, __sk_buff, TcContext, TcPacket<'_, true, true>: attend_v6_tc, open_v6_tc, copy_v6);

/// [`crc32c::delta`]
#[unsafe(no_mangle)]
#[cold]
#[inline(never)]
pub(crate) extern "C" fn crc32c_delta(difference: u32, rest: u32) -> u32 {
    crc32c::delta(difference, rest)
}

macro_rules! ask {
    ($ask:ident, $raw:ty) => {
        /// [`fib::ask`]
        #[unsafe(no_mangle)]
        #[cold]
        #[inline(never)]
        pub(crate) extern "C" fn $ask(ctx: *mut $raw, answer: *mut Answer) -> u32 {
            // SAFETY: null, or this CPU's own place.
            let Some(answer) = (unsafe { answer.as_mut() }) else {
                return 1;
            };
            // SAFETY: the context of the running program.
            unsafe { fib::ask(ctx.cast(), answer) };
            0
        }
    };
}

ask!(ask_xdp, xdp_md);
ask!(ask_tc, __sk_buff);
