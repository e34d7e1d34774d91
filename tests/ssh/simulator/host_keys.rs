//! known_hosts: recorded, compared, refused.

use std::fs;

use fleet::event::{HostKeyAction, Note};
use fleet::{Class, ErrorKind, HostKeyPolicy, Phase};
use fleet_sim::{Fault, HostPlan, KeyKind};

use crate::ground::{Ground, exec, exec_with_notes};

fn recorded(notes: &[Note]) -> Vec<HostKeyAction> {
    let action = |note: &Note| match note {
        Note::HostKey { action, .. } => Some(*action),
        _ => None,
    };
    notes.iter().filter_map(action).collect()
}

#[test]
fn an_unknown_key_is_recorded_once() {
    let ground = Ground::one(HostPlan::new());
    let (result, notes) = exec_with_notes(ground.first(), "true");
    assert_eq!(result.class(), Class::Ok);
    assert_eq!(recorded(&notes), [HostKeyAction::Recorded]);
    let (_, notes) = exec_with_notes(ground.first(), "true");
    assert_eq!(recorded(&notes), []);
    let file = fs::read_to_string(ground.path("known_hosts")).unwrap();
    assert_eq!(file.lines().count(), 1);
    let key: Vec<_> = ground.sim.hosts()[0].host_key_line().split(' ').skip(1).take(2).collect();
    assert!(file.contains(&key.join(" ")), "{file}");
}

#[test]
fn strict_refuses_an_unknown_key_and_takes_a_known_one() {
    let ground = Ground::one(HostPlan::new());
    let mut host = ground.first();
    host.host_key = HostKeyPolicy::Strict;
    let result = exec(host.clone(), "true");
    let error = result.error().unwrap();
    assert_eq!((error.kind(), error.phase()), (ErrorKind::HostKey, Some(Phase::HostKey)));
    assert!(error.to_string().contains("is not in known_hosts: ssh-ed25519 SHA256:"), "{error}");
    assert!(!ground.path("known_hosts").exists());
    assert_eq!(ground.sim.stats().logins, 0);
    ground.sim.write_known_hosts(ground.path("known_hosts")).unwrap();
    assert_eq!(exec(host, "true").class(), Class::Ok);
}

#[test]
fn a_changed_key_is_refused_and_both_are_named() {
    let ground = Ground::one(HostPlan::new().fault(Fault::WrongHostKey));
    ground.sim.write_known_hosts(ground.path("known_hosts")).unwrap();
    let before = fs::read(ground.path("known_hosts")).unwrap();
    let result = exec(ground.first(), "true");
    let error = result.error().unwrap();
    assert_eq!(error.kind(), ErrorKind::HostKey);
    let text = error.to_string();
    assert!(text.contains("has CHANGED") && text.matches("SHA256:").count() == 2, "{text}");
    assert!(text.contains(&format!("{}:1", ground.path("known_hosts").display())), "{text}");
    assert_eq!(fs::read(ground.path("known_hosts")).unwrap(), before);
    assert_eq!(ground.sim.stats().logins, 0);
}

#[test]
fn off_takes_a_changed_key_but_not_a_revoked_one() {
    let ground = Ground::one(HostPlan::new());
    let mut host = ground.first();
    host.host_key = HostKeyPolicy::Off;
    assert_eq!(exec(host.clone(), "true").class(), Class::Ok);
    assert!(!ground.path("known_hosts").exists(), "off records nothing");
    let key: Vec<_> = ground.sim.hosts()[0].host_key_line().split(' ').skip(1).take(2).collect();
    fs::write(ground.path("known_hosts"), format!("@revoked * {}\n", key.join(" "))).unwrap();
    let error = exec(host, "true").error().unwrap().to_string();
    assert!(error.contains("is revoked"), "{error}");
}

#[test]
fn the_key_type_that_is_known_is_the_one_asked_for() {
    let ground = Ground::one(HostPlan::new().host_keys([KeyKind::Ed25519, KeyKind::EcdsaP256]));
    let host = &ground.sim.hosts()[0];
    let ecdsa = host.host_key_lines().iter().find(|line| line.contains("ecdsa")).unwrap();
    let key: Vec<_> = ecdsa.split(' ').filter(|word| word.starts_with("ecdsa") || word.starts_with("AAAA")).collect();
    let name = ground.first().known_hosts_name();
    fs::write(ground.path("known_hosts"), format!("{name} {}\n", key.join(" "))).unwrap();
    let (result, notes) = exec_with_notes(ground.first(), "true");
    assert_eq!(result.class(), Class::Ok, "{result:?}");
    assert_eq!(recorded(&notes), [], "the known ECDSA key was used, nothing new was recorded");
}

#[test]
fn a_thousand_keys_are_recorded_whole() {
    let ground = Ground::start(Ground::healthy(300));
    let results = crate::ground::pool().fanout(crate::ground::fanout(100)).build().map(&ground.hosts(), fleet::Ping);
    assert!(results.iter().all(|result| result.is_ok()));
    let file = fs::read_to_string(ground.path("known_hosts")).unwrap();
    assert_eq!(file.lines().count(), 300);
    assert!(file.lines().all(|line| line.split(' ').count() == 3), "{file}");
}
