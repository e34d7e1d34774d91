//! Asynchronous jobs and their handles.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use fleet::fake::{FakeTransport, Reply};
use fleet::op::{Job, from_fn};
use fleet::{Class, ErrorKind, Exec, Host, HostResult, Phase, Ping, Pool, Session, Stop};

use super::{assert_nothing_left, boom, hosts, ms, n, until};

fn host() -> Arc<Host> {
    hosts(1).remove(0)
}

/// A pool of one worker, held up by a job that hangs.
fn held_up() -> (FakeTransport, Pool, fleet::Handle<fleet::ExecOutput>) {
    let fake = FakeTransport::new();
    fake.host("h0").on("hang", Reply::new().hang());
    let pool = Pool::builder(fake.clone()).fanout(n(1)).build();
    let handle = pool.submit(&host(), Exec::new("hang")).unwrap();
    until(|| !fake.calls().is_empty());
    (fake, pool, handle)
}

fn kind_of<T>(result: &HostResult<T>) -> Option<ErrorKind> {
    result.error().map(fleet::Error::kind)
}

#[test]
fn a_handle_gives_its_result() {
    let fake = FakeTransport::new();
    fake.host("h0").on("hostname", Reply::new().stdout("web\n"));
    let pool = Pool::builder(fake).build();
    let handle = pool.submit(&host(), Exec::new("hostname")).unwrap();
    assert_eq!(handle.host().name, "h0");
    assert!(handle.wait(None) && handle.ready());
    assert_eq!(handle.successful(), Some(true));
    assert_eq!(handle.get().value().unwrap().stdout.text().unwrap(), "web\n");
}

#[test]
fn a_wait_that_is_too_short_gives_the_handle_back() {
    let (_fake, _pool, handle) = held_up();
    assert!(!handle.wait(ms(1)) && !handle.ready());
    assert_eq!(handle.successful(), None);
    let handle = handle.get_timeout(ms(1)).unwrap_err();
    handle.cancel();
    assert_eq!(handle.get_timeout(ms(60_000)).unwrap().class(), Class::Cancelled);
}

#[test]
fn a_callback_has_the_result_before_the_handle() {
    let pool = Pool::builder(FakeTransport::new()).build();
    let is_called = Arc::new(AtomicBool::new(false));
    for _ in 0..200 {
        is_called.store(false, Ordering::SeqCst);
        let called = Arc::clone(&is_called);
        let handle = pool.apply_async(&host(), Ping, move |result| called.store(result.is_ok(), Ordering::SeqCst));
        handle.unwrap().get();
        assert!(is_called.load(Ordering::SeqCst));
    }
}

#[test]
fn callbacks_are_never_called_at_once() {
    let pool = Pool::builder(FakeTransport::new()).fanout(n(4)).build();
    let (inside, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for _ in 0..200 {
        let (inside, calls) = (Arc::clone(&inside), Arc::clone(&calls));
        let callback = move |_: &HostResult<()>| {
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
            assert_eq!(std::thread::current().name(), Some("fleet-collector"));
            std::thread::yield_now();
            inside.fetch_sub(1, Ordering::SeqCst);
            calls.fetch_add(1, Ordering::SeqCst);
        };
        pool.apply_async(&host(), Ping, callback).unwrap();
    }
    pool.join().unwrap();
    assert_eq!((calls.load(Ordering::SeqCst), inside.load(Ordering::SeqCst)), (200, 0));
}

#[test]
fn a_callback_that_panics_makes_its_job_fail_and_no_other() {
    let pool = Pool::builder(FakeTransport::new()).build();
    let bad = pool.apply_async(&host(), Ping, |_| boom()).unwrap();
    let good = pool.apply_async(&host(), Ping, |_| {}).unwrap();
    let bad = bad.get();
    assert_eq!((kind_of(&bad), bad.class()), (Some(ErrorKind::Panic), Class::Error));
    assert_eq!(bad.error().unwrap().to_string(), "the callback panicked: boom");
    assert!(good.get().is_ok());
}

#[test]
fn get_inside_a_callback_is_an_error_where_it_would_wait() {
    let (_fake, pool, hanging) = held_up();
    let (sender, receiver) = mpsc::channel();
    let pool = Arc::new(pool);
    let inner = Arc::clone(&pool);
    let hanging = Arc::new(Mutex::new(Some(hanging)));
    let held = Arc::clone(&hanging);
    let queued = pool.apply_async(&host(), Ping, move |_| {
        let handle = held.lock().unwrap().take().unwrap();
        assert!(!handle.wait(None));
        let handle = handle.get_timeout(ms(60_000)).unwrap_err();
        sender.send((handle.get(), inner.join())).unwrap();
    });
    queued.unwrap().cancel();
    let (result, joined) = receiver.recv().unwrap();
    assert_eq!(kind_of(&result), Some(ErrorKind::Usage));
    assert_eq!(joined.unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn a_job_that_is_cancelled_in_the_queue_is_never_started() {
    let (fake, pool, hanging) = held_up();
    let seen = Arc::new(Mutex::new(None));
    let told = Arc::clone(&seen);
    let callback = move |result: &HostResult<()>| *told.lock().unwrap() = Some(result.class());
    let queued = pool.apply_async(&host(), Ping, callback).unwrap();
    assert!(queued.cancel());
    assert!(queued.wait(None));
    assert!(!queued.cancel());
    let result = queued.get();
    assert_eq!((kind_of(&result), result.class()), (Some(ErrorKind::Cancelled), Class::NotStarted));
    assert_eq!(result.error().unwrap().phase(), Some(Phase::Queued));
    assert_eq!(*seen.lock().unwrap(), Some(Class::NotStarted));
    assert!(!hanging.ready());
    assert_eq!(fake.attempts("h0"), 1);
}

#[test]
fn a_job_that_is_cancelled_while_it_runs_is_ended_and_no_other() {
    let fake = FakeTransport::new();
    fake.host("h0").on("hang", Reply::new().hang());
    let pool = Pool::builder(fake.clone()).build();
    let first = pool.submit(&host(), Exec::new("hang")).unwrap();
    let second = pool.submit(&host(), Exec::new("hang")).unwrap();
    until(|| fake.calls().len() == 2);
    assert!(first.cancel());
    let result = first.get();
    assert_eq!(result.class(), Class::Cancelled);
    assert_eq!(result.report.facts.killed, Some("killed"));
    assert!(!second.ready());
}

#[test]
fn a_closed_pool_takes_no_more_and_ends_what_it_has() {
    let fake = FakeTransport::new();
    fake.host("h0").on("x", Reply::new().pause(ms(5)));
    let pool = Pool::builder(fake).fanout(n(2)).build();
    let handles: Vec<_> = (0..10).map(|_| pool.submit(&host(), Exec::new("x")).unwrap()).collect();
    pool.close();
    assert_eq!(pool.submit(&host(), Ping).unwrap_err().kind(), ErrorKind::Usage);
    pool.join().unwrap();
    assert!(handles.iter().all(|handle| handle.successful() == Some(true)));
    pool.join().unwrap();
}

#[test]
fn a_terminated_pool_resolves_every_handle() {
    let (fake, pool, hanging) = held_up();
    let queued: Vec<_> = (0..5).map(|_| pool.submit(&host(), Ping).unwrap()).collect();
    pool.terminate();
    assert_eq!(hanging.get().class(), Class::Cancelled);
    assert!(queued.into_iter().all(|handle| handle.get().class() == Class::NotStarted));
    assert_eq!(pool.submit(&host(), Ping).unwrap_err().kind(), ErrorKind::Usage);
    pool.join().unwrap();
    assert_nothing_left(&fake);
}

#[test]
fn a_drained_pool_ends_what_runs_and_starts_no_more() {
    let (_fake, pool, hanging) = held_up();
    let queued = pool.submit(&host(), Ping).unwrap();
    pool.cancel_token().stop(Stop::Drain);
    assert_eq!(queued.get().class(), Class::NotStarted);
    assert!(!hanging.ready());
    hanging.cancel();
    assert_eq!(hanging.get().class(), Class::Cancelled);
}

#[test]
fn dropping_a_pool_ends_its_jobs() {
    let (fake, pool, hanging) = held_up();
    let queued = pool.submit(&host(), Ping).unwrap();
    drop(pool);
    assert_eq!(hanging.successful(), Some(false));
    assert_eq!(queued.successful(), Some(false));
    assert!(!hanging.cancel());
    assert_nothing_left(&fake);
}

#[test]
fn a_pool_may_be_dropped_by_its_own_threads() {
    for in_callback in [false, true] {
        let pool = Arc::new(Pool::builder(FakeTransport::new()).build());
        let held = Mutex::new(Some(Arc::clone(&pool)));
        let go = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&go);
        let drop_it = move || {
            until(|| gone.load(Ordering::SeqCst));
            drop(held.lock().unwrap().take());
        };
        let handle = if in_callback {
            pool.apply_async(&host(), Ping, move |_| drop_it()).unwrap()
        } else {
            let op = from_fn("op", move |_: &mut dyn Session, _: &Job<'_>| {
                drop_it();
                Ok(())
            });
            pool.submit(&host(), op).unwrap()
        };
        drop(pool);
        go.store(true, Ordering::SeqCst);
        handle.get();
    }
}

#[test]
fn a_callback_may_submit_the_next_job() {
    let pool = Arc::new(Pool::builder(FakeTransport::new()).build());
    let (sender, receiver) = mpsc::channel();
    let next = Arc::clone(&pool);
    let callback = move |_: &HostResult<()>| {
        let sender = sender.clone();
        next.apply_async(&host(), Ping, move |result| sender.send(result.is_ok()).unwrap()).unwrap();
    };
    pool.apply_async(&host(), Ping, callback).unwrap();
    assert!(receiver.recv().unwrap());
}

#[test]
fn a_local_limit_lowers_the_fanout_of_jobs_too() {
    let fake = FakeTransport::new();
    fake.limit_sessions(2);
    let pool = Pool::builder(fake.clone()).fanout(n(8)).build();
    let op = Arc::new(from_fn("op", {
        let fake = fake.clone();
        move |_: &mut dyn Session, _: &Job<'_>| {
            until(|| fake.attempts("h0") > 2);
            Ok(())
        }
    }));
    let handles: Vec<_> = (0..40).map(|_| pool.submit(&host(), Arc::clone(&op)).unwrap()).collect();
    assert!(handles.into_iter().all(|handle| handle.get().is_ok()));
    assert_eq!(fake.peak_sessions(), 2);
}

#[test]
fn a_value_that_panics_when_dropped_does_not_end_the_collector() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            boom();
        }
    }
    impl fleet::Outcome for Bomb {}
    let pool = Pool::builder(FakeTransport::new()).build();
    // The value comes when nobody holds the handle any more: else it may be dropped with the handle, in this thread.
    let (is_dropped, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let bomb = from_fn("bomb", move |_: &mut dyn Session, _: &Job<'_>| {
        assert!(wait.lock().unwrap().recv().is_err());
        Ok(Bomb)
    });
    drop(pool.submit(&host(), bomb).unwrap());
    drop(is_dropped);
    assert!(pool.submit(&host(), Ping).unwrap().get().is_ok());
    pool.join().unwrap();
}
