//! A thousand hosts at once.

use fleet::{Class, Exec};

use crate::ground::{Ground, fanout, pool};

#[test]
fn a_thousand_hosts_succeed_at_any_fanout() {
    let ground = Ground::start(Ground::healthy(1000));
    for width in [64, 1000] {
        let results = pool().fanout(fanout(width)).build().map(&ground.hosts(), Exec::new("true"));
        let bad: Vec<_> = results.iter().filter(|result| result.class() != Class::Ok).take(3).collect();
        assert!(bad.is_empty(), "{bad:?}");
        assert_eq!(results.len(), 1000);
    }
    assert_eq!(ground.sim.stats().commands, 2000);
}

#[test]
fn one_address_never_has_more_than_its_share_of_logins_under_way() {
    let ground = Ground::one(Ground::healthy(1).remove(0).max_startups(8));
    let hosts: Vec<_> = (0..60).map(|_| std::sync::Arc::new(ground.first())).collect();
    let results = pool().fanout(fanout(60)).build().map(&hosts, Exec::new("true"));
    assert!(results.iter().all(|result| result.is_ok() && result.report.attempts == 1));
    let stats = ground.sim.stats();
    assert_eq!(stats.startups_refused, 0);
    assert!(stats.peak_unauthenticated <= 8, "{stats:?}");
}
