//! Looking names up, with a limit on how many lookups run and on how long one is waited for.
//!
//! `getaddrinfo` cannot be interrupted, so it runs on threads of its own, at most [`MAX_THREADS`]; a caller whose budget
//! ends leaves its lookup behind. This is the one exception to "every thread is joined".

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::host::{AddressFamily, Host};

/// How many lookups run at once.
const MAX_THREADS: usize = 64;

/// How long a resolver thread waits for another name before it ends.
const IDLE: Duration = Duration::from_secs(10);

struct Lookup {
    name: String,
    port: u16,
    answer: Arc<Answer>,
}

#[derive(Default)]
struct Answer {
    slot: Mutex<Option<std::io::Result<Vec<SocketAddr>>>>,
    ready: Condvar,
}

struct Resolver {
    queue: Sender<Lookup>,
    work: Receiver<Lookup>,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    running: usize,
    idle: usize,
}

/// Returns the addresses of a host that may be tried, at least one.
///
/// # Errors
/// As [`resolve`]; `Resolve` also when none is of the wanted family.
pub(super) fn addresses_of(host: &Host, budget: &Budget) -> Result<Vec<SocketAddr>> {
    let (is_wanted, name): (fn(&SocketAddr) -> bool, _) = match host.address_family {
        AddressFamily::Any => return resolve(&host.address, host.port, budget),
        AddressFamily::Inet => (SocketAddr::is_ipv4, "IPv4"),
        AddressFamily::Inet6 => (SocketAddr::is_ipv6, "IPv6"),
    };
    let mut addresses = resolve(&host.address, host.port, budget)?;
    addresses.retain(is_wanted);
    if addresses.is_empty() {
        let what = format!("{} has no {name} address, and no other may be used", host.address);
        return Err(Error::new(ErrorKind::Resolve, what).in_phase(Phase::Resolve));
    }
    Ok(addresses)
}

/// Returns the addresses of this machine to connect from; none where the system chooses.
///
/// # Errors
/// As [`resolve`].
pub(super) fn sources_of(host: &Host, budget: &Budget) -> Result<Vec<SocketAddr>> {
    match &host.bind_address {
        Some(address) => resolve(address, 0, budget),
        None => Ok(Vec::new()),
    }
}

/// Returns a host's addresses in the order of preference (RFC 6724), at least one.
///
/// # Errors
/// `Resolve` when the name has none; `Timeout`, `Deadline` or `Cancelled` when the budget ends first.
fn resolve(name: &str, port: u16, budget: &Budget) -> Result<Vec<SocketAddr>> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let answer = Arc::new(Answer::default());
    resolver().submit(Lookup { name: name.to_owned(), port, answer: Arc::clone(&answer) })?;
    let waker = Arc::clone(&answer);
    let _subscription = budget.cancel_token().subscribe(move |_| {
        // Under the lock, so that a waiter between its check and its wait is not missed.
        let _slot = waker.slot.lock().unwrap_or_else(PoisonError::into_inner);
        waker.ready.notify_all();
    });
    let mut slot = answer.slot.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(found) = slot.take() {
            return addresses(name, found);
        }
        budget.check(Phase::Resolve)?;
        slot = match budget.remaining() {
            None => answer.ready.wait(slot).unwrap_or_else(PoisonError::into_inner),
            Some(left) => answer.ready.wait_timeout(slot, left).unwrap_or_else(PoisonError::into_inner).0,
        };
    }
}

fn addresses(name: &str, found: std::io::Result<Vec<SocketAddr>>) -> Result<Vec<SocketAddr>> {
    let error = Error::new(ErrorKind::Resolve, format!("cannot resolve {name}")).in_phase(Phase::Resolve);
    match found {
        Ok(addresses) if addresses.is_empty() => Err(error),
        Ok(addresses) => Ok(addresses),
        Err(cause) => Err(error.caused_by(Cause(plain(&cause)))),
    }
}

/// Leaves the part out that only says which C function failed.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ").map_or(text.clone(), str::to_owned)
}

#[derive(Debug)]
struct Cause(String);

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

fn resolver() -> &'static Resolver {
    static RESOLVER: OnceLock<Resolver> = OnceLock::new();
    RESOLVER.get_or_init(|| {
        let (queue, work) = crossbeam_channel::unbounded();
        Resolver { queue, work, threads: Mutex::default() }
    })
}

impl Resolver {
    fn submit(&'static self, lookup: Lookup) -> Result<()> {
        let mut threads = self.threads();
        let limit = |what: &str| Error::new(ErrorKind::LocalLimit, what).in_phase(Phase::Resolve);
        self.queue.send(lookup).map_err(|_| limit("the resolver has stopped"))?;
        if threads.idle >= self.work.len() || threads.running >= MAX_THREADS {
            return Ok(());
        }
        let started = std::thread::Builder::new().name("fleet-resolver".to_owned()).spawn(|| self.work());
        match started {
            Ok(_) => threads.running += 1,
            Err(cause) if threads.running == 0 => {
                return Err(limit("cannot start a resolver thread").caused_by(cause));
            }
            Err(_) => {}
        }
        Ok(())
    }

    fn work(&self) {
        loop {
            self.threads().idle += 1;
            let lookup = self.work.recv_timeout(IDLE);
            let mut threads = self.threads();
            threads.idle -= 1;
            let Ok(lookup) = lookup.or_else(|_| self.work.try_recv()) else {
                threads.running -= 1;
                return;
            };
            drop(threads);
            let found = (lookup.name.as_str(), lookup.port).to_socket_addrs().map(Iterator::collect);
            *lookup.answer.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
            lookup.answer.ready.notify_all();
        }
    }

    fn threads(&self) -> std::sync::MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{CancelToken, Stop};

    #[test]
    fn a_numeric_address_needs_no_lookup() {
        let budget = Budget::new(CancelToken::new());
        assert_eq!(resolve("::1", 22, &budget).unwrap(), ["[::1]:22".parse().unwrap()]);
    }

    #[test]
    fn localhost_is_found_by_many_at_once() {
        let threads: Vec<_> = (0..100)
            .map(|_| std::thread::spawn(|| resolve("localhost", 22, &Budget::new(CancelToken::new())).unwrap()))
            .collect();
        for thread in threads {
            assert!(!thread.join().unwrap().is_empty());
        }
        assert!(resolver().threads().running <= MAX_THREADS);
    }

    #[test]
    fn a_stopped_lookup_is_left_behind() {
        let cancel = CancelToken::new();
        cancel.stop(Stop::Abort);
        let error = resolve("localhost.invalid", 22, &Budget::new(cancel)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Resolve), "{error:?}");
        assert_eq!(error.phase(), Some(Phase::Resolve));
    }
}
