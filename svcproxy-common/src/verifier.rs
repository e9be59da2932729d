//! What the kernel's verifier asks of the compiled code beyond the source: that checks stay before what they permit, and
//! that loops close the way old kernels accept. On the host all of this does nothing.

/// The same value, of which LLVM knows nothing any more: what is computed from it stays behind the check before this call.
///
/// LLVM moves `pointer + 20` above the null check of `pointer`, and kernels before 6.14 refuse arithmetic on a pointer that
/// may be null (`map_value_or_null`). It also moves the range check of a number to another register, and the verifier then
/// does not know the range of this one. The instruction must exist: an empty one with a comment makes the kernel refuse the
/// line information ("Invalid line_info").
#[inline(always)]
pub fn barrier<T: Word>(value: T) -> T {
    value.pass()
}

/// Ends the body of a loop with a jump. LLVM lets a body fall through into the head of its loop; kernels before 6.7 take
/// that for an endless loop ("back-edge", `push_insn` in kernel/bpf/verifier.c) and accept a jump.
#[inline(always)]
pub fn close_loop() {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the instruction jumps to the next one.
    unsafe {
        core::arch::asm!("goto +0", options(nomem, nostack));
    }
}

/// A number between 1 and `most` for a helper that reads so many bytes; `None` when `length` is none. The verifier refuses
/// a length that may be 0, and before Linux 6.8 knows that it is not only in this form.
#[inline(always)]
pub fn length_within(length: u32, most: usize) -> Option<u32> {
    let last = barrier(u64::from(length).wrapping_sub(1));
    (last < most as u64).then(|| last as u32 + 1)
}

/// What fits one register, see [`barrier`].
pub trait Word {
    /// The value, by way of an instruction that LLVM does not look into.
    #[must_use]
    fn pass(self) -> Self;
}

macro_rules! word {
    ($type:ty $(, $generic:ident)?) => {
        impl $(<$generic>)? Word for $type {
            #[inline(always)]
            fn pass(self) -> Self {
                #[cfg(target_arch = "bpf")]
                {
                    let mut value = self;
                    // SAFETY: the instruction moves a register to itself.
                    unsafe { core::arch::asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack)) };
                    value
                }
                #[cfg(not(target_arch = "bpf"))]
                self
            }
        }
    };
}

word!(*mut T, T);
word!(u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_between_one_and_the_most() {
        assert_eq!(
            [0, 1, 8, 9].map(|length| length_within(length, 8)),
            [None, Some(1), Some(8), None]
        );
        assert_eq!(length_within(u32::MAX, 8), None);
    }
}
