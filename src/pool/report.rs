//! How a job's end becomes a host's one result.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::clock::Times;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::event::{Class, Facts, HostReport, HostResult, StopReason};
use crate::host::Host;

/// One host of a submission.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task<'a> {
    pub(super) host: &'a Arc<Host>,
    pub(super) index: usize,
    pub(super) total: usize,
    pub(super) submitted: Instant,
}

impl Task<'_> {
    /// Makes the result of a job that a worker had.
    pub(super) fn end<T>(&self, outcome: Result<(T, Facts)>, attempts: u32, times: Times) -> HostResult<T> {
        let (facts, outcome) = match outcome {
            Ok((value, facts)) => (facts, Ok(value)),
            Err(error) => (Facts::new(Class::of_error(&error)), Err(error)),
        };
        let report = HostReport {
            host: Arc::clone(self.host),
            index: self.index,
            facts,
            error: outcome.as_ref().err().cloned(),
            attempts,
            queued: times.queued,
            duration: times.duration,
            phases: times.phases,
        };
        HostResult::new(outcome, Arc::new(report))
    }

    /// Makes the result of a job that no worker will have.
    pub(super) fn without_worker<T>(&self, error: Error) -> HostResult<T> {
        self.end(Err(error), 0, Times { queued: self.submitted.elapsed(), ..Times::default() })
    }
}

/// Makes the error of a host that a stop kept from being started.
pub(super) fn never_started(reason: StopReason) -> Error {
    match reason {
        StopReason::Deadline => Error::new(ErrorKind::Deadline, "not started before the run's deadline"),
        _ => Error::new(ErrorKind::Cancelled, "not started before the run was stopped"),
    }
    .in_phase(Phase::Queued)
}

/// Makes the error of a job whose thread could not be started although none other ran.
pub(super) fn no_thread(cause: std::io::Error) -> Error {
    Error::new(ErrorKind::LocalLimit, "cannot start a thread").caused_by(cause).in_phase(Phase::Queued)
}

/// Makes the error of a job that went down with its worker.
pub(super) fn lost_worker() -> Error {
    Error::new(ErrorKind::Internal, "the worker's thread ended without a result").in_phase(Phase::Running)
}

/// Makes the error of a panic.
pub(super) fn panicked(payload: Box<dyn Any + Send>, phase: Phase) -> Error {
    Error::new(ErrorKind::Panic, format!("panicked: {}", panic_message(payload))).in_phase(phase)
}

/// Returns what a panic said.
pub(super) fn panic_message(payload: Box<dyn Any + Send>) -> String {
    let message = match payload.downcast_ref::<&'static str>() {
        Some(text) => (*text).to_owned(),
        None => payload.downcast_ref::<String>().cloned().unwrap_or_else(|| "without a message".to_owned()),
    };
    // A payload may panic once more when it is dropped, and what that throws, too: the second is not touched.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_panics_when_dropped_is_survived() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("again");
            }
        }
        assert_eq!(panic_message(Box::new(Bomb)), "without a message");
        assert_eq!(panicked(Box::new("boom"), Phase::Login).to_string(), "panicked: boom");
    }
}
