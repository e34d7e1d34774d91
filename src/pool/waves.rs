//! The waves of a rollout: who begins when, and what must hold before the next.

use std::collections::HashMap;
use std::slice::Iter;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::builder::Wave;
use super::shared::Shared;
use crate::event::{Event, EventKind, HostReport, Note, Outcome, Stream};
use crate::host::Host;

/// What is known when a wave has ended and another is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaveEnd {
    /// The wave that ended, from 1.
    pub number: usize,
    /// How many hosts have ended, in this wave and those before.
    pub done: usize,
    /// How many of them failed, as thresholds count.
    pub failures: usize,
    /// How many hosts the next wave begins.
    pub next: usize,
    /// How many hosts the run has.
    pub hosts: usize,
}

/// Lets go of the hosts of one wave after the other.
pub(super) struct Waves<'a, 'op, T> {
    shared: &'a Shared<'op, T>,
    next: Iter<'a, Wave>,
    number: usize,
    reached: usize,
}

impl<'a, 'op, T: Outcome + Send + 'static> Waves<'a, 'op, T> {
    pub(super) fn new(shared: &'a Shared<'op, T>) -> Self {
        let next = shared.core.options.rollout.iter();
        if next.len() == 0 {
            return Self { shared, next, number: 0, reached: shared.hosts.len() };
        }
        shared.queue.hold_back_after(0);
        Self { shared, next, number: 0, reached: 0 }
    }

    /// Returns what there is to decide: the wave before is `done`, another is to begin, and nothing has stopped the run.
    pub(super) fn ended(&mut self, done: usize, failures: usize) -> Option<WaveEnd> {
        let hosts = self.shared.hosts.len();
        if done < self.reached || self.reached >= hosts || self.shared.is_stopping() {
            return None;
        }
        // A wave that reaches no further than the one before is none.
        let reach = loop {
            let reach = self.next.next().map_or(hosts, |wave| wave.reach(hosts));
            if reach > self.reached {
                break reach;
            }
        };
        let end = WaveEnd { number: self.number, done, failures, next: reach - self.reached, hosts };
        self.reached = reach;
        self.number += 1;
        Some(end)
    }

    /// Begins the wave that [`ended`](Self::ended) told of.
    pub(super) fn begin(&self, end: &WaveEnd) {
        self.shared.queue.release(end.next);
    }
}

/// Compares what the hosts of a wave wrote and how they ended.
#[derive(Default)]
pub(super) struct Sameness {
    under_way: HashMap<*const Host, [Sha256; 2]>,
    /// How many hosts of the wave gave each output.
    counts: HashMap<[u8; 32], usize>,
    hosts: usize,
}

impl Sameness {
    /// Hears of an event.
    pub(super) fn hear(&mut self, event: &Event) {
        if let EventKind::Note { host, note: Note::Retrying { .. } } = &event.kind {
            // What an attempt wrote that is made again is no part of the result.
            self.under_way.remove(&Arc::as_ptr(host));
        }
        if let EventKind::Output { host, stream, bytes } = &event.kind {
            let [stdout, stderr] = self.under_way.entry(Arc::as_ptr(host)).or_default();
            match stream {
                Stream::Stdout => stdout.update(bytes),
                Stream::Stderr => stderr.update(bytes),
            }
        }
    }

    /// Hears of a host that is done.
    pub(super) fn finished(&mut self, report: &HostReport) {
        self.hosts += 1;
        let [stdout, stderr] = self.under_way.remove(&Arc::as_ptr(&report.host)).unwrap_or_default();
        // Without a status there is no result to compare: such a host is like no other.
        if let Some(code) = report.facts.exit_code {
            let mut all = Sha256::new_with_prefix(code.to_be_bytes());
            all.update(stdout.finalize());
            all.update(stderr.finalize());
            *self.counts.entry(all.finalize().into()).or_default() += 1;
        }
    }

    /// Returns how many of how many hosts gave what most of them gave, and begins with the next wave.
    pub(super) fn take(&mut self) -> (usize, usize) {
        let most = self.counts.values().copied().max().unwrap_or(0);
        let hosts = self.hosts;
        *self = Self::default();
        (most, hosts)
    }
}
