//! Room in `backend_slots`: first fit between the regions that programs may be reading.

use std::{collections::BTreeMap, iter, ops::Range};

use svcproxy_common::abi::EndpointSet;

/// The free ranges of the array.
pub(super) struct FreeSlots {
    gaps: Vec<Range<u32>>,
    /// For each length the first gap that may have room for it: gaps only shrink, so no search looks before it again.
    start: BTreeMap<u32, usize>,
}

impl FreeSlots {
    /// What lies between the regions of these sets, below `limit`.
    pub(super) fn beside(sets: impl Iterator<Item = EndpointSet>, limit: u32) -> Self {
        let mut used: Vec<_> = sets
            .filter(|set| set.slot_count > 0)
            .map(|set| set.slot_offset..set.slot_offset.saturating_add(set.slot_count))
            .chain(iter::once(limit..u32::MAX))
            .collect();
        used.sort_unstable_by_key(|region| region.start);
        let mut gaps = Vec::new();
        let mut free_from = 0;
        for region in used {
            if region.start > free_from {
                gaps.push(free_from..region.start);
            }
            free_from = free_from.max(region.end);
        }
        Self {
            gaps,
            start: BTreeMap::new(),
        }
    }

    /// Takes `length` slots; their offset, or `None` when no gap is long enough.
    pub(super) fn take(&mut self, length: u32) -> Option<u32> {
        let start = self.start.entry(length).or_default();
        let room = |gap: &Range<u32>| gap.end - gap.start >= length;
        *start += self.gaps[*start..]
            .iter()
            .position(room)
            .unwrap_or(self.gaps.len() - *start);
        let gap = self.gaps.get_mut(*start)?;
        let offset = gap.start;
        gap.start += length;
        Some(offset)
    }
}

#[cfg(test)]
mod tests {
    use svcproxy_common::abi::Empty;

    use super::*;

    fn set(slot_offset: u32, slot_count: u32) -> EndpointSet {
        EndpointSet {
            number: 1,
            slot_offset,
            slot_count,
            empty: Empty::REJECT,
        }
    }

    #[test]
    fn the_first_gap_with_room_is_taken() {
        let used = [set(110, 90), set(10, 90), set(0, 0)];
        let mut free = FreeSlots::beside(used.into_iter(), 300);
        let offsets = [5, 20, 5, 10, 1, 69, 2].map(|length| free.take(length));
        assert_eq!(
            offsets,
            [Some(0), Some(200), Some(5), Some(100), Some(220), Some(221), Some(290)]
        );
        assert_eq!(free.take(9), None);
        assert_eq!(free.take(8), Some(292));
        assert_eq!(free.take(1), None);
    }

    #[test]
    fn regions_that_overlap_or_reach_beyond_the_end_leave_what_is_free() {
        let used = [set(10, 50), set(20, 10), set(90, 50)];
        let mut free = FreeSlots::beside(used.into_iter(), 100);
        assert_eq!([10, 30, 1].map(|length| free.take(length)), [Some(0), Some(60), None]);
    }
}
