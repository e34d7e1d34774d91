//! Copying public keys to simulated hosts: what is said, and what is proved.

use std::path::Path;

use fleet_sim::{FixtureKey, HostPlan, KeyKind, Logins};

use crate::ground::{Ground, PASSWORD};

/// Hosts that take a password, and the key `new` on all but the last: this one looks for keys elsewhere.
fn ground(names: &[&str]) -> Ground {
    let keys = tempfile::tempdir().unwrap();
    let key = FixtureKey::generate(KeyKind::Ed25519, keys.path().join("new")).unwrap();
    let by_password = Logins::password("ops", PASSWORD);
    let by_both = Logins::key("ops", &key).with_password("ops", PASSWORD);
    let plan = |(at, name): (usize, &&str)| {
        HostPlan::new().name(*name).logins(if at + 1 < names.len() { by_both.clone() } else { by_password.clone() })
    };
    let ground = Ground::start(names.iter().enumerate().map(plan).collect());
    for name in ["new", "new.pub"] {
        std::fs::copy(keys.path().join(name), ground.fleet.dir().join(name)).unwrap();
    }
    ground
}

fn installed(ground: &Ground, host: &str) -> String {
    let home = ground.sim.host(host).unwrap().home();
    std::fs::read_to_string(Path::new(home).join(".ssh/authorized_keys")).unwrap_or_default()
}

#[test]
fn what_is_said_of_each_host() {
    let Ground { fleet, sim } = ground(&["a", "b", "elsewhere"]);
    // Three refused proofs are the host's affair: no password is refused.
    let fleet = fleet.env("WORD", PASSWORD);
    let args = ["copy-id", "-f", "1", "--password-from", "env:WORD", "--key", "new"];
    let with = |more: &[&'static str]| [&args[..], more].concat();
    let fleet = fleet
        .run(&with(&["-x", "b"]))
        .run(&with(&[]))
        .run(&with(&["-q", "--format", "json"]))
        .run(&with(&["-w", "elsewhere", "--no-proof"]))
        .run(&with(&["-w", "a", "--format", "json", "-v"]));
    fleet.golden("copy_id");
    let ground = Ground { fleet, sim };
    let public = std::fs::read_to_string(ground.fleet.dir().join("new.pub")).unwrap();
    for host in ["a", "b", "elsewhere"] {
        assert_eq!(installed(&ground, host).trim_end(), public.trim_end(), "{host}");
    }
    assert_eq!(ground.sim.stats().password.refused, 0);
}

#[test]
fn the_key_of_the_identity_is_the_default_and_hosts_that_differ_are_refused() {
    let ground = Ground::named(&["a", "b"]);
    let public = std::fs::read_to_string(ground.fleet.dir().join("key.pub")).unwrap();
    let output = ground.fleet.output(&["copy-id", "-f", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a: added\nb: added\n");
    assert_eq!(installed(&ground, "b").trim_end(), public.trim_end());
    let other = FixtureKey::generate(KeyKind::Ed25519, ground.fleet.dir().join("other")).unwrap();
    drop(other);
    let fleet = ground.fleet.configure("b", "identity = [\"other\", \"key\"]");
    let before = ground.sim.stats().connections;
    let output = fleet.output(&["copy-id"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "fleet: a and b have different keys\nhint: name the one to copy with --key\n"
    );
    assert_eq!((output.status.code(), ground.sim.stats().connections), (Some(2), before));
}

#[test]
fn an_encrypted_key_needs_its_passphrase_for_the_proof_alone() {
    let ground = ground(&["a", "other"]);
    let dir = ground.fleet.dir().to_owned();
    let locked = std::process::Command::new("ssh-keygen")
        .args(["-q", "-p", "-N", "open sesame", "-f"])
        .arg(dir.join("new"))
        .output()
        .unwrap();
    assert!(locked.status.success());
    let fleet = ground.fleet.env("WORD", PASSWORD).secret("passphrase", "open sesame\n");
    let args = ["copy-id", "-w", "a", "--password-from", "env:WORD", "--key", "new"];
    let output = fleet.output(&args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), ground.sim.stats().connections), (Some(2), 0), "{said}");
    assert!(said.starts_with("fleet: key new is encrypted and no passphrase was given\nhint: "), "{said}");
    let output = fleet.output(&[&args[..], &["--no-proof"]].concat());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a: added\n");
    let fleet = fleet.configure("a", "passphrase = \"file:passphrase\"");
    let output = fleet.output(&args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"a: already there\n"[..]), "{said}");
}
