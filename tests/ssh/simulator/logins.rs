//! Passwords, keys, and what is said when neither does.

use fleet::{Answer, Class, ErrorKind, Identity, LoginMethod, Phase, PublicKey, Secret};
use fleet_sim::{FixtureKey, HostPlan, KeyKind, Logins, Method};

use crate::ground::{Ground, PASSWORD, exec};

#[test]
fn a_password_logs_in() {
    let ground = Ground::one(HostPlan::new());
    let result = exec(ground.host_by_password(&ground.sim.hosts()[0], PASSWORD), "true");
    assert_eq!(result.class(), Class::Ok);
    assert_eq!(ground.sim.stats().password.accepted, 1);
}

#[test]
fn a_password_answers_keyboard_interactive_where_nothing_else_is_offered() {
    let logins = Logins::password("ops", PASSWORD).methods([Method::KeyboardInteractive]);
    let ground = Ground::one(HostPlan::new().logins(logins));
    let result = exec(ground.host_by_password(&ground.sim.hosts()[0], PASSWORD), "true");
    assert_eq!(result.class(), Class::Ok, "{result:?}");
    assert_eq!(ground.sim.stats().keyboard_interactive.accepted, 1);
}

#[test]
fn a_wrong_password_is_tried_once_and_never_again() {
    for methods in [vec![Method::Password], vec![Method::Password, Method::KeyboardInteractive]] {
        let ground = Ground::one(HostPlan::new().logins(Logins::password("ops", PASSWORD).methods(methods)));
        let result = exec(ground.host_by_password(&ground.sim.hosts()[0], "wrong"), "true");
        let error = result.error().expect("an error");
        assert_eq!((error.kind(), error.phase()), (ErrorKind::Login, Some(Phase::Login)));
        assert!(error.to_string().starts_with("login refused for ops: the password (the server offers"), "{error}");
        assert_eq!(result.class(), Class::Unreachable);
        let stats = ground.sim.stats();
        assert_eq!(stats.password.refused + stats.keyboard_interactive.refused, 1, "{stats:?}");
        assert_eq!(stats.connections, 1, "a refused login is not retried");
    }
}

#[test]
fn a_wrong_answer_to_keyboard_interactive_is_given_once() {
    let logins = Logins::password("ops", PASSWORD).methods([Method::KeyboardInteractive]);
    let ground = Ground::one(HostPlan::new().logins(logins));
    let result = exec(ground.host_by_password(&ground.sim.hosts()[0], "wrong"), "true");
    assert_eq!(result.error().unwrap().kind(), ErrorKind::Login);
    assert_eq!(ground.sim.stats().keyboard_interactive.refused, 1);
}

#[test]
fn keys_of_every_type_log_in() {
    let dir = tempfile::tempdir().unwrap();
    for kind in [KeyKind::Ed25519, KeyKind::EcdsaP256, KeyKind::Rsa2048] {
        let key = FixtureKey::generate(kind, dir.path().join(format!("{kind:?}"))).unwrap();
        let ground = Ground::one(HostPlan::new().logins(Logins::key("ops", &key)));
        let mut host = ground.bare(&ground.sim.hosts()[0]);
        host.auth.identities.push(Identity::File(key.path.clone()));
        let result = exec(host, "true");
        assert_eq!(result.class(), Class::Ok, "{kind:?}: {result:?}");
    }
}

#[test]
fn the_second_key_and_then_the_password_are_tried_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let other = FixtureKey::generate(KeyKind::Ed25519, dir.path().join("other")).unwrap();
    let ground = Ground::one(HostPlan::new());
    let mut host = ground.bare(&ground.sim.hosts()[0]);
    host.auth.identities = vec![Identity::File(other.path), Identity::File(ground.key.path.clone())];
    assert_eq!(exec(host.clone(), "true").class(), Class::Ok);
    host.auth.identities.pop();
    host.auth.password = Some(Secret::from(PASSWORD));
    assert_eq!(exec(host, "true").class(), Class::Ok);
    assert_eq!(ground.sim.stats().password.accepted, 1);
}

#[test]
fn a_refusal_names_what_was_tried_and_what_is_offered() {
    let dir = tempfile::tempdir().unwrap();
    let other = FixtureKey::generate(KeyKind::Ed25519, dir.path().join("other")).unwrap();
    let ground = Ground::one(HostPlan::new());
    let mut host = ground.bare(&ground.sim.hosts()[0]);
    host.auth.identities.push(Identity::File(other.path.clone()));
    let result = exec(host, "true");
    let path = other.path.display();
    assert_eq!(
        result.error().unwrap().to_string(),
        format!("login refused for ops: key {path} (the server offers publickey, password)")
    );
}

#[test]
fn nothing_to_log_in_with_says_so() {
    let ground = Ground::one(HostPlan::new());
    let result = exec(ground.bare(&ground.sim.hosts()[0]), "true");
    let error = result.error().unwrap().to_string();
    assert!(error.starts_with("nothing to log in with as ops: no key and no password"), "{error}");
}

#[test]
fn a_server_that_asks_for_nothing_lets_in() {
    let dir = tempfile::tempdir().unwrap();
    let key = FixtureKey::generate(KeyKind::Ed25519, dir.path().join("other")).unwrap();
    let ground = Ground::one(HostPlan::new().logins(Logins::password("ops", PASSWORD).unasked()));
    let sim = &ground.sim.hosts()[0];
    for methods in [vec![LoginMethod::PublicKey], vec![LoginMethod::KeyboardInteractive, LoginMethod::Password]] {
        let mut host = ground.bare(sim);
        host.auth.methods = methods;
        assert_eq!(exec(host.clone(), "true").class(), Class::Ok, "nothing to show");
        host.auth.identities.push(Identity::File(key.path.clone()));
        assert_eq!(exec(host, "true").class(), Class::Ok, "a key that it does not know");
    }
    assert_eq!(exec(ground.host_by_password(sim, "wrong"), "true").class(), Class::Ok);
    let mut proof = ground.host(sim);
    proof.auth.only_key = Some(PublicKey::parse(&ground.key.public).unwrap().blob().to_vec());
    assert_eq!(exec(proof, "true").class(), Class::Unreachable, "no proof that the key is known");
}

#[test]
fn a_key_that_cannot_be_read_is_named() {
    let ground = Ground::one(HostPlan::new());
    let mut host = ground.bare(&ground.sim.hosts()[0]);
    host.auth.identities.push(Identity::File(ground.path("missing")));
    let error = exec(host, "true").error().unwrap().chain();
    assert!(error.contains("missing"), "{error}");
}

/// Every login method is wanted, one after the other.
fn steps(ground: &FixtureKey, methods: Vec<Method>) -> Logins {
    Logins::key("ops", ground).with_password("ops", PASSWORD).methods(methods).all_required()
}

#[test]
fn a_login_of_two_steps_takes_the_key_and_then_the_password() {
    let dir = tempfile::tempdir().unwrap();
    let key = FixtureKey::generate(KeyKind::Ed25519, dir.path().join("id")).unwrap();
    let pairs = [Method::Password, Method::KeyboardInteractive];
    for second in pairs {
        let ground = Ground::one(HostPlan::new().logins(steps(&key, vec![Method::PublicKey, second])));
        let mut host = ground.bare(&ground.sim.hosts()[0]);
        host.auth.identities.push(Identity::File(key.path.clone()));
        let error = exec(host.clone(), "true").error().unwrap().to_string();
        let name = format!("login of ops needs more than key {} (the server offers ", key.path.display());
        assert!(error.starts_with(&name), "{error}");
        host.auth.password = Some(Secret::from(PASSWORD));
        let result = exec(host.clone(), "true");
        assert_eq!(result.class(), Class::Ok, "{second:?}: {result:?}");
        host.auth.password = Some(Secret::from("wrong"));
        let error = exec(host, "true").error().unwrap().to_string();
        let name = format!("login refused for ops after key {}: the password", key.path.display());
        assert!(error.starts_with(&name), "{error}");
        let stats = ground.sim.stats();
        assert_eq!(stats.password.refused + stats.keyboard_interactive.refused, 1, "{stats:?}");
    }
}

#[test]
fn a_second_question_is_refused_by_its_name() {
    let mut logins = Logins::password("ops", PASSWORD).methods([Method::KeyboardInteractive]);
    logins.code = Some("123456".to_owned());
    let ground = Ground::one(HostPlan::new().logins(logins));
    let result = exec(ground.host_by_password(&ground.sim.hosts()[0], PASSWORD), "true");
    let error = result.error().unwrap();
    assert_eq!(error.kind(), ErrorKind::Login);
    let asked = "login refused for ops: the server asks \"Verification code:\", which nothing answers";
    assert!(error.to_string().starts_with(asked), "{error}");
}

#[test]
fn every_question_gets_its_answer_in_one_request_or_in_two() {
    for together in [false, true] {
        let mut logins = Logins::password("ops", PASSWORD).methods([Method::KeyboardInteractive]);
        logins.code = Some("123456".to_owned());
        logins.is_code_with_password = together;
        let ground = Ground::one(HostPlan::new().logins(logins));
        let mut host = ground.host_by_password(&ground.sim.hosts()[0], PASSWORD);
        host.auth.answers = vec![Answer::new("verification code", Secret::from("123456"))];
        let result = exec(host.clone(), "true");
        assert_eq!(result.class(), Class::Ok, "{together}: {result:?}");
        host.auth.answers = vec![Answer::new("verification code", Secret::from("999999"))];
        let result = exec(host, "true");
        let error = result.error().unwrap().to_string();
        let said = "login refused for ops: the password and the answer to \"verification code\" (keyboard-interactive)";
        assert!(error.starts_with(said), "{together}: {error}");
        let counts = ground.sim.stats().keyboard_interactive;
        assert_eq!((counts.accepted, counts.refused), (1, 1), "{together}");
    }
}

#[test]
fn a_key_and_then_a_code_need_no_password_and_a_code_counts_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let key = FixtureKey::generate(KeyKind::Ed25519, dir.path().join("id")).unwrap();
    // The simulator asks every account for its "password": here that is the code.
    let logins = steps(&key, vec![Method::PublicKey, Method::KeyboardInteractive]);
    let ground = Ground::start(vec![HostPlan::new().logins(logins); 20]);
    let reach = |code: &str, host| {
        let mut reached = ground.bare(host);
        reached.auth.identities.push(Identity::File(key.path.clone()));
        reached.auth.answers = vec![Answer::new("pass", Secret::typed(code))];
        std::sync::Arc::new(reached)
    };
    for (code, ok) in [("wrong", 0), (PASSWORD, 20)] {
        let hosts: Vec<_> = ground.sim.hosts().iter().map(|host| reach(code, host)).collect();
        let results = crate::ground::pool().build().map(&hosts, fleet::Exec::new("true"));
        let of = |class| results.iter().filter(|result| result.class() == class).count();
        assert_eq!(of(Class::Ok), ok, "{:?}", results[0]);
        assert_eq!(ground.sim.stats().keyboard_interactive.refused, 1);
    }
}

/// Runs `true` with one password on so many hosts that take another one, and returns the results.
fn try_everywhere(ground: &Ground, password: &Secret) -> Vec<fleet::HostResult<fleet::ExecOutput>> {
    let reach = |host| {
        let mut reached = ground.bare(host);
        reached.auth.password = Some(password.clone());
        std::sync::Arc::new(reached)
    };
    let hosts: Vec<_> = ground.sim.hosts().iter().map(reach).collect();
    crate::ground::pool().fanout(crate::ground::fanout(256)).build().map(&hosts, fleet::Exec::new("true"))
}

#[test]
fn a_wrong_password_is_tried_no_more_often_than_allowed_on_a_thousand_hosts() {
    for (password, allowance) in [(Secret::from("wrong"), 3), (Secret::typed("wrong"), 1)] {
        let ground = Ground::start(Ground::healthy(1000));
        let results = try_everywhere(&ground, &password);
        let of = |class| results.iter().filter(|result| result.class() == class).count();
        assert_eq!((of(Class::Unreachable), of(Class::NotStarted)), (allowance, 1000 - allowance));
        let stats = ground.sim.stats();
        assert_eq!(stats.password.refused + stats.keyboard_interactive.refused, allowance as u64, "{stats:?}");
        let left_out = results.iter().find(|result| result.class() == Class::NotStarted).unwrap();
        let text = left_out.error().unwrap().to_string();
        assert!(text.starts_with("not tried: the password of ops was refused"), "{text}");
    }
}

#[test]
fn one_acceptance_lets_a_thousand_hosts_in_whatever_else_fails() {
    let mut plans = Ground::healthy(1000);
    for (at, fault) in [(0, fleet_sim::Fault::CutBeforeLogin { times: 100 }), (1, fleet_sim::Fault::GarbageBanner)] {
        plans[at] = plans[at].clone().fault(fault);
    }
    let ground = Ground::start(plans);
    let results = try_everywhere(&ground, &Secret::typed(PASSWORD));
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 998);
    assert_eq!(ground.sim.stats().password.refused, 0);
}
