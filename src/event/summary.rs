//! The counts of a run, and the exit code that follows from them.

use std::time::Duration;

use super::{Class, StopReason};

/// The counts of a run that is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// How many hosts were submitted.
    pub hosts: usize,
    /// How many ended as each of [`Class::ALL`], in that order.
    counts: [usize; 8],
    /// What stopped the run before its end.
    pub stopped_by: Option<StopReason>,
    /// How long the run took.
    pub duration: Duration,
    /// Why the first output that failed did so; the other outputs still got every result.
    pub failed_sink: Option<String>,
}

impl Summary {
    /// Counts one host.
    pub fn count(&mut self, class: Class) {
        self.hosts += 1;
        if let Some(count) = self.counts.get_mut(class as usize) {
            *count += 1;
        }
    }

    /// Returns how many hosts ended as `class`.
    pub fn of(&self, class: Class) -> usize {
        self.counts.get(class as usize).copied().unwrap_or(0)
    }

    /// Returns how many hosts count against `--max-fail`: failed, unreachable, lost and timed out.
    pub fn failures(&self) -> usize {
        Class::ALL.into_iter().filter(|class| class.is_failure()).map(|class| self.of(class)).sum()
    }

    /// Tells whether every host ended well and every output got it.
    pub fn is_ok(&self) -> bool {
        self.exit_code() == 0
    }

    /// Returns the process's exit code (DESIGN section 8): 130 > 70 > 124 > 4 > 3 > 1 > 0.
    pub fn exit_code(&self) -> u8 {
        let stop = self.stopped_by;
        if let Some(code) = match stop {
            Some(StopReason::Interrupt) => Some(130),
            Some(StopReason::Terminate) => Some(143),
            Some(StopReason::Hangup) => Some(129),
            _ => None,
        } {
            return code;
        }
        if self.of(Class::Error) > 0 || self.failed_sink.is_some() || stop == Some(StopReason::Output) {
            return 70;
        }
        if self.of(Class::TimedOut) > 0 || stop == Some(StopReason::Deadline) {
            return 124;
        }
        if matches!(stop, Some(StopReason::Threshold | StopReason::Rollout)) {
            return 4;
        }
        let unreached = self.of(Class::Unreachable) + self.of(Class::Lost);
        if unreached > 0 || stop == Some(StopReason::Breaker) {
            return 3;
        }
        if self.of(Class::Failed) > 0 {
            return 1;
        }
        // A job cancelled by its own handle, in a run that nothing stopped.
        if self.of(Class::Cancelled) + self.of(Class::NotStarted) > 0 {
            return 130;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(classes: &[Class], stopped_by: Option<StopReason>) -> Summary {
        let mut summary = Summary { stopped_by, ..Summary::default() };
        for class in classes {
            summary.count(*class);
        }
        summary
    }

    #[test]
    fn the_exit_code_is_the_worst_that_happened() {
        use Class::*;
        let table: [(&[Class], Option<StopReason>, u8); 20] = [
            (&[], None, 0),
            (&[Ok, Ok], None, 0),
            (&[Ok, Failed], None, 1),
            (&[Failed, Unreachable], None, 3),
            (&[Failed, Lost], None, 3),
            (&[Failed, NotStarted], Some(StopReason::Threshold), 4),
            (&[Unreachable, NotStarted], Some(StopReason::Threshold), 4),
            (&[Ok, NotStarted], Some(StopReason::Rollout), 4),
            (&[Unreachable, NotStarted], Some(StopReason::Breaker), 3),
            (&[Unreachable, TimedOut, Failed], None, 124),
            (&[Ok, NotStarted], Some(StopReason::Deadline), 124),
            (&[TimedOut, NotStarted], Some(StopReason::Threshold), 124),
            (&[TimedOut, Error], None, 70),
            (&[Ok, NotStarted], Some(StopReason::Output), 70),
            (&[Error, Cancelled], Some(StopReason::Interrupt), 130),
            (&[Cancelled], Some(StopReason::Interrupt), 130),
            (&[Ok], Some(StopReason::Interrupt), 130),
            (&[Cancelled], Some(StopReason::Terminate), 143),
            (&[Cancelled], Some(StopReason::Hangup), 129),
            (&[Ok, Cancelled], None, 130),
        ];
        for (classes, stopped_by, code) in table {
            assert_eq!(summary(classes, stopped_by).exit_code(), code, "{classes:?} {stopped_by:?}");
        }
        let failed = Summary { failed_sink: Some("disk full".into()), ..summary(&[TimedOut], None) };
        assert_eq!(failed.exit_code(), 70);
    }
}
