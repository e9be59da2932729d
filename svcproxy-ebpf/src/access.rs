//! The bounds check between a packet's bytes and the views of `svcproxy_common::wire`.

use svcproxy_common::wire::Wire;

/// The bytes of a packet that a program may touch.
pub(crate) struct Frame {
    start: usize,
    end: usize,
}

impl Frame {
    /// From the `data` and `data_end` of a context; the verifier knows these two values for what they are.
    #[inline(always)]
    pub(crate) const fn new(data: usize, data_end: usize) -> Self {
        Self {
            start: data,
            end: data_end,
        }
    }

    /// Number of bytes.
    #[inline(always)]
    pub(crate) const fn len(&self) -> usize {
        self.end - self.start
    }

    /// Where `length` bytes from `offset` on are; `None` when the frame ends before them.
    #[inline(always)]
    pub(crate) fn bytes(&self, offset: usize, length: usize) -> Option<*const u8> {
        let address = self.start + offset;
        (address + length <= self.end).then_some(address as *const u8)
    }

    /// A view of the header at `offset`; `None` when the frame ends before it.
    #[inline(always)]
    pub(crate) fn at<T: Wire>(&self, offset: usize) -> Option<&T> {
        let address = self.bytes(offset, size_of::<T>())?;
        // SAFETY: the bytes lie between `data` and `data_end` of the running program's context (checked above), and
        // a `Wire` type is valid at any address for any bytes.
        Some(unsafe { &*address.cast() })
    }

    /// The same at an offset that is a constant on every way through the program. The view is no address of its own then but
    /// the frame's, with the offset in each instruction: it takes none of the few registers that outlast a call.
    #[inline(always)]
    pub(crate) fn at_constant<T: Wire>(&self, offset: usize) -> Option<&T> {
        let checked = self.start + offset + size_of::<T>() <= self.end;
        // SAFETY: as in `at`. The verifier knows all addresses that are a constant from the checked one to be checked.
        checked.then(|| unsafe { &*(self.start as *const u8).add(offset).cast() })
    }
}
