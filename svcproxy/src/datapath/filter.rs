//! The filter before `flows_` ([`svcproxy_common::filter`]), made anew while programs use it.

use std::ops::Range;

use aya::maps::Map;
use svcproxy_common::{
    filter::{Filter, Renewal},
    flow::Live,
};

use super::{DatapathError, grace, shared::SharedArray};

/// The filter as numbers.
const NUMBERS: Range<u32> = 0..(size_of::<Filter>() / size_of::<u64>()) as u32;

/// The map.
pub(super) struct FlowFilter(SharedArray<u64>);

impl FlowFilter {
    /// Over the map as it is.
    pub(super) fn new(map: Map) -> Result<Self, DatapathError> {
        SharedArray::new("flow_filter", map).map(Self)
    }

    /// Makes the filter anew, of the keys that `fill` adds: all that the tables hold. Entries that have left them since it
    /// was made the last time then no longer count.
    ///
    /// # Errors
    ///
    /// Those of `fill`, and when the filter cannot be mapped; the programs then go on with what they have.
    pub(super) fn renew<T>(
        &self,
        fill: impl FnOnce(&Renewal<'_>) -> Result<T, DatapathError>,
    ) -> Result<T, DatapathError> {
        let window = self.0.window(NUMBERS)?;
        // SAFETY: all of a filter is mapped; `Live` has the layout of what it wraps.
        let filter = unsafe { &*window.first().cast::<Live<Filter>>() };
        let renewal = filter.renew();
        // Whoever has not added its key to the emptied generation has put it into the table by now.
        grace::wait();
        let filled = fill(&renewal)?;
        // Whoever reads it from now on finds all of that.
        grace::wait();
        renewal.complete();
        // The other is emptied, the next time, when nobody reads it any more.
        grace::wait();
        Ok(filled)
    }
}
