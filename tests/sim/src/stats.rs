//! Counters of a host and of the whole simulator.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::config::Method;

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// TCP connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub open: u64,
    /// Most connections open at once.
    pub peak_open: u64,
    /// Connections that are not logged in now.
    pub unauthenticated: u64,
    /// Most connections that were not logged in at once.
    pub peak_unauthenticated: u64,
    /// Connections refused with `Exceeded MaxStartups`.
    pub startups_refused: u64,
    /// Logins that succeeded.
    pub logins: u64,
    /// Attempts with `publickey`.
    pub publickey: LoginCounts,
    /// Attempts with `password`.
    pub password: LoginCounts,
    /// Attempts with `keyboard-interactive`.
    pub keyboard_interactive: LoginCounts,
    /// Commands accepted, canned ones included.
    pub commands: u64,
    /// SFTP subsystems started.
    pub sftp: u64,
    /// `signal` requests for commands.
    pub signals: u64,
    /// Shells that were started and have not ended.
    pub live_processes: u64,
}

/// Attempts with one method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoginCounts {
    /// How many succeeded.
    pub accepted: u64,
    /// How many were refused; a key that is only offered counts when it is refused.
    pub refused: u64,
}

/// A number with its highest value.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    now: AtomicU64,
    peak: AtomicU64,
}

impl Gauge {
    fn up(&self) -> u64 {
        let now = self.now.fetch_add(1, Relaxed) + 1;
        self.peak.fetch_max(now, Relaxed);
        now
    }

    fn down(&self) {
        self.now.fetch_sub(1, Relaxed);
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.load(Relaxed)
    }
}

/// The counters behind [`Stats`], of one host or of all.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: AtomicU64,
    pub(crate) open: Gauge,
    pub(crate) unauthenticated: Gauge,
    pub(crate) startups_refused: AtomicU64,
    pub(crate) logins: AtomicU64,
    methods: [(AtomicU64, AtomicU64); 3],
    pub(crate) commands: AtomicU64,
    pub(crate) sftp: AtomicU64,
    pub(crate) signals: AtomicU64,
    pub(crate) live: Gauge,
}

impl Counters {
    fn method(&self, method: Method) -> &(AtomicU64, AtomicU64) {
        let [publickey, password, keyboard] = &self.methods;
        match method {
            Method::PublicKey => publickey,
            Method::Password => password,
            Method::KeyboardInteractive => keyboard,
        }
    }

    fn login_counts(&self, method: Method) -> LoginCounts {
        let (accepted, refused) = self.method(method);
        LoginCounts { accepted: accepted.load(Relaxed), refused: refused.load(Relaxed) }
    }

    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            connections: self.connections.load(Relaxed),
            open: self.open.now(),
            peak_open: self.open.peak.load(Relaxed),
            unauthenticated: self.unauthenticated.now(),
            peak_unauthenticated: self.unauthenticated.peak.load(Relaxed),
            startups_refused: self.startups_refused.load(Relaxed),
            logins: self.logins.load(Relaxed),
            publickey: self.login_counts(Method::PublicKey),
            password: self.login_counts(Method::Password),
            keyboard_interactive: self.login_counts(Method::KeyboardInteractive),
            commands: self.commands.load(Relaxed),
            sftp: self.sftp.load(Relaxed),
            signals: self.signals.load(Relaxed),
            live_processes: self.live.now(),
        }
    }
}

/// A host's counters together with the simulator's: what happens counts in both.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) host: Arc<Counters>,
    pub(crate) total: Arc<Counters>,
}

impl Tally {
    pub(crate) fn count(&self, pick: impl Fn(&Counters) -> &AtomicU64) {
        pick(&self.host).fetch_add(1, Relaxed);
        pick(&self.total).fetch_add(1, Relaxed);
    }

    pub(crate) fn login(&self, method: Method, accepted: bool) {
        self.count(|counters| {
            let (yes, no) = counters.method(method);
            if accepted { yes } else { no }
        });
    }

    /// Raises a gauge until the result is dropped.
    pub(crate) fn hold(&self, pick: fn(&Counters) -> &Gauge) -> Held {
        pick(&self.host).up();
        pick(&self.total).up();
        Held { tally: self.clone(), pick }
    }
}

/// One unit of a gauge.
#[derive(Debug)]
pub(crate) struct Held {
    tally: Tally,
    pick: fn(&Counters) -> &Gauge,
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.pick)(&self.tally.host).down();
        (self.pick)(&self.tally.total).down();
    }
}
