//! Whether the proxy does its work: the rule, with the clock given.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

/// For how long a change may wait to be applied: kube-proxy's twice its sync period.
pub const OVERDUE: Duration = Duration::from_secs(60);

/// What the daemon notes of itself. Times are passed in.
#[derive(Debug, Default)]
pub struct Health(Mutex<Notes>);

#[derive(Debug, Clone, Copy, Default)]
struct Notes {
    /// When the maps were last brought to what the input says.
    updated: Option<SystemTime>,
    /// Since when a change waits.
    waiting: Option<SystemTime>,
    /// Whether this node is on its way out.
    node_leaves: bool,
}

/// What the answers are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    /// No change is overdue.
    pub(super) in_time: bool,
    /// The maps have been programmed once.
    pub(super) ready: bool,
    /// This node stays.
    pub(super) node_eligible: bool,
    /// When the maps were last programmed.
    pub(super) updated: Option<SystemTime>,
}

impl Health {
    /// A change has come in. An earlier one that still waits is the one that counts.
    pub fn queued(&self, now: SystemTime) {
        self.notes().waiting.get_or_insert(now);
    }

    /// All that has come in is dealt with: it is in the maps.
    pub fn updated(&self, now: SystemTime) {
        let mut notes = self.notes();
        notes.waiting = None;
        notes.updated = Some(now);
    }

    /// What has come in was refused as invalid: nothing waits, what was in the maps stays.
    pub fn refused(&self) {
        self.notes().waiting = None;
    }

    /// Whether a change waits to be dealt with.
    pub fn is_waiting(&self) -> bool {
        self.notes().waiting.is_some()
    }

    /// Whether this node is on its way out.
    pub fn set_node_leaves(&self, leaves: bool) {
        self.notes().node_leaves = leaves;
    }

    /// The status at a time.
    pub(super) fn status(&self, now: SystemTime) -> Status {
        let notes = *self.notes();
        let late = |since: SystemTime| now.duration_since(since).is_ok_and(|waited| waited >= OVERDUE);
        Status {
            in_time: !notes.waiting.is_some_and(late),
            ready: notes.updated.is_some(),
            node_eligible: !notes.node_leaves,
            updated: notes.updated,
        }
    }

    /// The notes are whole after every single assignment, so a panic elsewhere spoils nothing.
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn rule_28_nothing_is_ready_before_the_first_update() {
        let health = Health::default();
        let status = health.status(at(1000));
        assert!(status.in_time && !status.ready && status.updated.is_none());
        health.queued(at(1000));
        assert!(!health.status(at(1001)).ready);
        health.updated(at(1002));
        let status = health.status(at(5000));
        assert!(status.in_time && status.ready);
        assert_eq!(status.updated, Some(at(1002)));
    }

    #[test]
    fn a_change_that_waits_too_long_is_overdue_whatever_follows_it() {
        let health = Health::default();
        health.updated(at(0));
        health.queued(at(100));
        health.queued(at(150));
        assert!(health.status(at(159)).in_time);
        assert!(!health.status(at(160)).in_time);
        health.updated(at(161));
        assert!(health.status(at(1000)).in_time);
    }

    #[test]
    fn a_change_that_is_refused_waits_no_more() {
        let health = Health::default();
        health.updated(at(0));
        health.queued(at(100));
        health.refused();
        let status = health.status(at(1000));
        assert!(status.in_time && status.ready);
        assert_eq!(status.updated, Some(at(0)));
    }
}
