//! What the bench tells the generator: the words of the map `control`, which has one element. Shared with the bench.

/// Number of words.
pub(crate) const WORDS: usize = 5;
/// Index in `xdp_programs` or `tc_programs` of the program to go on to.
pub(crate) const TARGET: usize = 0;
/// Index of the first tuple to use in the table of tuples.
pub(crate) const FIRST: usize = 1;
/// Number of tuples to use, a power of two, less 1.
pub(crate) const MASK: usize = 2;
/// How many packets have been made.
pub(crate) const NEXT: usize = 3;
/// The interface that `send` sends by.
pub(crate) const INTERFACE: usize = 4;
