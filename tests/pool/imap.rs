//! Iterators over results.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fleet::event::StopReason;
use fleet::fake::{FakeTransport, Reply};
use fleet::op::{Job, from_fn};
use fleet::{Class, ErrorKind, Exec, Operation, Ping, Pool, Session, Stop};

use super::{assert_nothing_left, hosts, ms, n, until};

/// The first host ends when it is let go.
fn first_waits(is_let_go: &Arc<AtomicBool>) -> impl Operation<Output = usize> + 'static {
    let is_let_go = Arc::clone(is_let_go);
    from_fn("op", move |_: &mut dyn Session, job: &Job<'_>| {
        until(|| job.index > 0 || is_let_go.load(Ordering::SeqCst));
        Ok(job.index)
    })
}

#[test]
fn unordered_results_come_as_hosts_end() {
    let pool = Pool::builder(FakeTransport::new()).fanout(n(2)).build();
    let is_let_go = Arc::new(AtomicBool::new(false));
    let mut results = pool.imap_unordered(&hosts(5), first_waits(&is_let_go));
    assert_eq!(results.len(), 5);
    let mut indices: Vec<_> = results.by_ref().take(4).map(|result| *result.value().unwrap()).collect();
    indices.sort_unstable();
    assert_eq!(indices, [1, 2, 3, 4]);
    is_let_go.store(true, Ordering::SeqCst);
    assert_eq!(results.map(|result| *result.value().unwrap()).collect::<Vec<_>>(), [0]);
}

#[test]
fn ordered_results_come_in_the_order_of_the_hosts() {
    let pool = Pool::builder(FakeTransport::new()).fanout(n(2)).build();
    let is_let_go = Arc::new(AtomicBool::new(false));
    let mut results = pool.imap(&hosts(50), first_waits(&is_let_go));
    assert_eq!(results.next_timeout(ms(20)).unwrap_err().kind(), ErrorKind::Timeout);
    is_let_go.store(true, Ordering::SeqCst);
    let order: Vec<_> = results.map(|result| *result.value().unwrap()).collect();
    assert_eq!(order, (0..50).collect::<Vec<_>>());
}

#[test]
fn whoever_takes_nothing_holds_the_hosts_back() {
    let fake = FakeTransport::new();
    let pool = Pool::builder(fake.clone()).fanout(n(2)).build();
    let mut results = pool.imap_unordered(&hosts(100), Exec::new("x"));
    assert!(results.next().is_some());
    // Two in the channel, two waiting to send, two in flight at the most.
    until(|| fake.calls().len() >= 4);
    assert!(fake.calls().len() <= 7, "{}", fake.calls().len());
    drop(results);
    assert!(fake.calls().len() <= 7, "{}", fake.calls().len());
    assert_nothing_left(&fake);
}

#[test]
fn an_ordered_iterator_does_not_run_far_ahead_of_a_slow_host() {
    let fake = FakeTransport::new();
    fake.host("h0").otherwise(Reply::new().pause(ms(100)));
    let pool = Pool::builder(fake.clone()).fanout(n(2)).build();
    let mut results = pool.imap(&hosts(100), Exec::new("x"));
    assert_eq!(results.next().unwrap().report.index, 0);
    assert!(fake.calls().len() <= 6, "{}", fake.calls().len());
    assert_eq!(results.len(), 99);
    assert_eq!(results.map(|result| result.report.index).collect::<Vec<_>>(), (1..100).collect::<Vec<_>>());
}

#[test]
fn dropping_an_iterator_ends_what_runs() {
    let fake = FakeTransport::new();
    for number in 0..6 {
        fake.host(&format!("h{number}")).otherwise(Reply::new().hang());
    }
    let pool = Pool::builder(fake.clone()).fanout(n(3)).build();
    let results = pool.imap_unordered(&hosts(6), Exec::new("x"));
    until(|| fake.calls().len() == 3);
    drop(results);
    assert_nothing_left(&fake);
    assert_eq!(fake.calls().len(), 3);
}

#[test]
fn a_wait_with_a_timeout_ends_and_the_iterator_goes_on() {
    let fake = FakeTransport::new();
    fake.host("h0").otherwise(Reply::new().hang());
    let pool = Pool::builder(fake).build();
    let mut results = pool.imap_unordered(&hosts(1), Exec::new("x"));
    assert_eq!(results.next_timeout(ms(1)).unwrap_err().kind(), ErrorKind::Timeout);
    results.control().stop(Stop::Abort, StopReason::Interrupt);
    assert_eq!(results.next().unwrap().class(), Class::Cancelled);
    assert!(results.next_timeout(ms(1)).unwrap().is_none());
}

#[test]
fn an_iterator_that_is_stopped_still_has_one_result_for_each_host() {
    let fake = FakeTransport::new();
    let pool = Pool::builder(fake).fanout(n(1)).build();
    let mut results = pool.imap(&hosts(20), Ping);
    assert!(results.next().unwrap().is_ok());
    results.control().stop(Stop::Drain, StopReason::Interrupt);
    let rest: Vec<_> = results.collect();
    assert_eq!(rest.len(), 19);
    assert_eq!(rest.last().unwrap().class(), Class::NotStarted);
}

#[test]
fn a_pool_that_is_dropped_ends_its_iterators() {
    let fake = FakeTransport::new();
    fake.host("h0").otherwise(Reply::new().hang());
    let pool = Pool::builder(fake).build();
    let mut results = pool.imap_unordered(&hosts(1), Exec::new("x"));
    drop(pool);
    let class = results.next().unwrap().class();
    assert!(matches!(class, Class::Cancelled | Class::NotStarted), "{class}");
}
