//! The settings of a pool.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::Pool;
use crate::transport::{ExecLimits, RETRY_DELAY, Transport};

/// How many hosts may be in flight at once when nobody says.
const FANOUT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);
/// Below what sshd's `MaxStartups 10:30:100` begins to drop (sshd_config(5)).
const STARTS_PER_ADDRESS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(7);
/// How many bytes a command may write where its output is captured, when nobody says: 1 GiB.
pub const DEFAULT_MAX_OUTPUT: u64 = 1 << 30;

/// How many hosts may fail before a run starts no more of them.
///
/// Failed, unreachable, lost and timed out hosts count. A run that crosses its threshold drains, and its summary says
/// `threshold`, also when every host was in flight already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Threshold {
    /// The run stops when more than this many failed; with 0 at the first.
    Count(usize),
    /// The run stops when more than this part of the submitted hosts failed, in percent.
    Percent(u8),
}

impl Threshold {
    pub(super) fn is_crossed(self, failures: usize, hosts: usize) -> bool {
        match self {
            Self::Count(limit) => failures > limit,
            Self::Percent(percent) => failures as u128 * 100 > u128::from(percent) * hosts as u128,
        }
    }
}

/// How far a run is rolled out before it waits for what it began: a count of hosts from the first, or a part of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wave {
    /// The first so many hosts.
    Count(usize),
    /// This part of the hosts in percent, rounded up.
    Percent(u8),
}

impl Wave {
    /// Returns how many of `hosts` hosts the wave reaches.
    pub fn reach(self, hosts: usize) -> usize {
        let reach = match self {
            Self::Count(count) => count,
            Self::Percent(percent) => hosts.saturating_mul(usize::from(percent)).div_ceil(100),
        };
        reach.min(hosts)
    }
}

/// The settings of a [`Pool`], each with its default.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) fanout: NonZeroUsize,
    pub(super) handshakes: Option<NonZeroUsize>,
    pub(super) starts_per_address: NonZeroUsize,
    pub(super) timeout: Option<Duration>,
    pub(super) limits: ExecLimits,
    pub(super) deadline: Option<Duration>,
    pub(super) max_fail: Option<Threshold>,
    pub(super) retry_delay: Duration,
    pub(super) retry_op: u32,
    pub(super) splay: Duration,
    pub(super) rollout: Vec<Wave>,
    pub(super) same_output: Option<u8>,
    pub(super) phase_events: bool,
    pub(super) output_events: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fanout: FANOUT,
            handshakes: None,
            starts_per_address: STARTS_PER_ADDRESS,
            timeout: None,
            limits: ExecLimits {
                max_output_bytes: Some(DEFAULT_MAX_OUTPUT),
                only_captured: true,
                ..ExecLimits::default()
            },
            deadline: None,
            max_fail: None,
            retry_delay: RETRY_DELAY,
            retry_op: 0,
            splay: Duration::ZERO,
            rollout: Vec::new(),
            same_output: None,
            phase_events: false,
            output_events: true,
        }
    }
}

/// Makes a [`Pool`]: [`Pool::builder`], settings, [`build`](Self::build).
#[derive(Clone)]
#[must_use]
pub struct PoolBuilder {
    transport: Arc<dyn Transport>,
    options: Options,
}

impl std::fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}

impl PoolBuilder {
    pub(super) fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport, options: Options::default() }
    }

    /// Sets how many hosts may be in flight at once. Default: every submitted host, up to 256.
    pub fn fanout(mut self, fanout: NonZeroUsize) -> Self {
        self.options.fanout = fanout;
        self
    }

    /// Sets how many logins may be on their way at once in the whole pool. Default: as many as hosts in flight.
    pub fn handshakes(mut self, handshakes: impl Into<Option<NonZeroUsize>>) -> Self {
        self.options.handshakes = handshakes.into();
        self
    }

    /// Sets how many logins may be on their way at once to one address and port. Default 8.
    pub fn starts_per_address(mut self, starts: NonZeroUsize) -> Self {
        self.options.starts_per_address = starts;
        self
    }

    /// Sets how long an operation may take on one host, from the login's end. Default: forever.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.timeout = timeout.into();
        self
    }

    /// Sets how long a command may write nothing. Default: forever.
    pub fn idle_timeout(mut self, idle: impl Into<Option<Duration>>) -> Self {
        self.options.limits.idle = idle.into();
        self
    }

    /// Sets how many bytes a command may write in all, on standard output and standard error together: past them it is ended
    /// and the host has failed. `None` is no limit. Default: 1 GiB where the output is captured, no limit where it
    /// [passes through](crate::Exec::capture).
    pub fn max_output_bytes(mut self, max: impl Into<Option<u64>>) -> Self {
        self.options.limits.max_output_bytes = max.into();
        self.options.limits.only_captured = false;
        self
    }

    /// Sets how long after TERM a command is sent KILL, and how long after KILL its end is awaited. Default 5 s.
    pub fn kill_after(mut self, kill_after: Duration) -> Self {
        self.options.limits.kill_after = kill_after;
        self
    }

    /// Sets whether commands that run longer than 300 ms get a guard on their host, which ends them when they are stopped or the
    /// connection ends ([`Session::guard`](crate::transport::Session::guard)). Default: yes.
    pub fn guard(mut self, wanted: bool) -> Self {
        self.options.limits.guard = wanted;
        self
    }

    /// Sets how long a whole run may take, from its start. Default: forever.
    ///
    /// What is in flight then is ended (`timed_out`), and what waits is `not_started`. Jobs of
    /// [`Pool::apply_async`] belong to no run and have no deadline.
    pub fn deadline(mut self, deadline: impl Into<Option<Duration>>) -> Self {
        self.options.deadline = deadline.into();
        self
    }

    /// Sets how many hosts of a run may fail before it starts no more. Default: all.
    pub fn max_fail(mut self, threshold: impl Into<Option<Threshold>>) -> Self {
        self.options.max_fail = threshold.into();
        self
    }

    /// Sets about how long the first wait before another attempt to connect is. Default 200 ms.
    ///
    /// It doubles with each attempt and is spread by half of it either way; [`Host::retries`](crate::Host::retries) says
    /// how many attempts there are.
    pub fn retry_delay(mut self, delay: Duration) -> Self {
        self.options.retry_delay = delay;
        self
    }

    /// Sets how often an operation is run again on a host whose connection ended under it. Default: never.
    ///
    /// Only an operation that says it [is idempotent](crate::Operation::is_idempotent) is; each time the host is connected to
    /// anew, with a new connect timeout.
    pub fn retry_op(mut self, times: u32) -> Self {
        self.options.retry_op = times;
        self
    }

    /// Lets each host wait for a random time up to `splay` before it is connected to. Default: none.
    ///
    /// The wait counts as queued, and takes up a place of the fanout; a stop ends it, and the host is `not_started`.
    pub fn splay(mut self, splay: Duration) -> Self {
        self.options.splay = splay;
        self
    }

    /// Sets the waves of a run or a map: hosts beyond a wave begin when all of it ended and no threshold was crossed.
    ///
    /// Waves are cumulative and rising; the last one, every host, needs not be said. Default: that one alone.
    pub fn rollout(mut self, waves: impl IntoIterator<Item = Wave>) -> Self {
        self.options.rollout = waves.into_iter().collect();
        self
    }

    /// Sets how many hosts of a wave, in percent, must have given the same output (standard output, standard error and exit
    /// status) for the next wave to begin. Default: that is not looked at. The operation's output must be events.
    pub fn same_output(mut self, percent: impl Into<Option<u8>>) -> Self {
        self.options.same_output = percent.into();
        self
    }

    /// Sets whether sinks hear each [`EventKind::Phase`](crate::EventKind::Phase). Default: no.
    pub fn phase_events(mut self, wanted: bool) -> Self {
        self.options.phase_events = wanted;
        self
    }

    /// Sets whether sinks hear each [`EventKind::Output`](crate::EventKind::Output). Default: yes.
    pub fn output_events(mut self, wanted: bool) -> Self {
        self.options.output_events = wanted;
        self
    }

    /// Makes the pool. No thread is started before there is work.
    pub fn build(self) -> Pool {
        Pool::new(self.transport, self.options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_reaches_a_part_rounded_up() {
        assert_eq!(Wave::Percent(10).reach(25), 3);
        assert_eq!(Wave::Percent(100).reach(25), 25);
        assert_eq!(Wave::Percent(1).reach(0), 0);
        assert_eq!(Wave::Count(30).reach(25), 25);
    }

    #[test]
    fn a_threshold_is_crossed_above_its_value_not_at_it() {
        assert!(!Threshold::Count(0).is_crossed(0, 5));
        assert!(Threshold::Count(0).is_crossed(1, 5));
        assert!(!Threshold::Percent(10).is_crossed(3, 30));
        assert!(Threshold::Percent(10).is_crossed(4, 30));
        assert!(!Threshold::Percent(100).is_crossed(30, 30));
    }
}
