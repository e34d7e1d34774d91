//! Every way in that the containers offer: each runs `df`, and sshd says by what.

use std::process::{Child, Command, Stdio};

use crate::fixture::{Turn, fixture};

/// Runs `df` on one host with an inventory of these settings, and looks for how sshd let it in.
fn df(fixture: &Turn, host: &str, settings: &str, accepted: &[&str]) {
    let port = fixture.ports()[host];
    let before = fixture.log(host).len();
    let text = format!(
        "[hosts.{host}]\naddress = \"127.0.0.1\"\nport = {port}\nuser = \"ops\"\nknown_hosts = \"known_hosts\"\n{settings}\n"
    );
    fixture.write("login.toml", &text);
    let said = fixture.fleet(&["exec", "-i", "login.toml", "df"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stdout.starts_with(&format!("{host}: Filesystem ")), "{said:?}");
    let log = fixture.log(host).split_off(before);
    for words in accepted {
        assert!(log.contains(words), "{words}: {log}");
    }
}

#[test]
fn a_password_logs_in() {
    df(&fixture(), "pw1", "password = \"file:password\"", &["Accepted password for ops"]);
}

#[test]
fn an_rsa_key_logs_in() {
    df(&fixture(), "key1", "identity = \"id_rsa\"", &["Accepted publickey for ops", "ssh2: RSA SHA256:"]);
}

#[test]
fn an_ecdsa_key_logs_in() {
    df(&fixture(), "key1", "identity = \"id_ecdsa\"", &["Accepted publickey for ops", "ssh2: ECDSA SHA256:"]);
}

#[test]
fn an_ed25519_key_logs_in() {
    df(&fixture(), "key2", "identity = \"id_ed25519\"", &["Accepted publickey for ops", "ssh2: ED25519 SHA256:"]);
}

#[test]
fn an_encrypted_key_logs_in() {
    let settings = "identity = \"id_rsa_enc\"\npassphrase = \"file:id_rsa_enc.passphrase\"";
    df(&fixture(), "key3", settings, &["Accepted publickey for ops", "ssh2: RSA SHA256:"]);
}

#[test]
fn a_certificate_logs_in_where_its_key_alone_does_not() {
    let fixture = fixture();
    df(
        &fixture,
        "key1",
        "identity = \"id_cert\"",
        &["Accepted publickey for ops", "ssh2: ED25519-CERT ", "ID fleet-docker"],
    );
    // The same key without its certificate.
    std::fs::copy(fixture.path("id_cert"), fixture.path("id_plain")).unwrap();
    let said = fixture.fleet(&["ping", "-i", "login.toml", "-I", "id_plain"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.stderr.starts_with("fleet: key1: unreachable: login refused for ops: key id_plain "), "{said:?}");
}

/// An ssh-agent beside the keys; ended when it is dropped.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_key_in_an_agent_logs_in() {
    let fixture = fixture();
    let ssh = |name: &str| {
        let mut command = Command::new(name);
        command.current_dir(fixture.path("")).env("SSH_AUTH_SOCK", fixture.path("agent")).stdin(Stdio::null());
        command
    };
    let _ = std::fs::remove_file(fixture.path("agent"));
    let mut agent = Agent(ssh("ssh-agent").args(["-D", "-a", "agent"]).stdout(Stdio::null()).spawn().unwrap());
    // `ssh-add -l` says 1 for an agent without keys, 2 for none.
    while ssh("ssh-add").arg("-l").output().unwrap().status.code() == Some(2) {
        assert!(agent.0.try_wait().unwrap().is_none(), "ssh-agent has ended");
    }
    assert!(ssh("ssh-add").args(["-q", "id_ed25519"]).status().unwrap().success());
    df(&fixture, "key2", "agent = \"agent\"", &["Accepted publickey for ops", "ssh2: ED25519 SHA256:"]);
}

#[test]
fn a_key_and_then_the_password_log_in() {
    let fixture = fixture();
    let accepted = ["Partial publickey for ops", "Accepted password for ops"];
    df(&fixture, "two1", "identity = \"id_ecdsa\"\npassword = \"file:password\"", &accepted);
    // One of them is not enough.
    let alone = fixture.read("login.toml").replace("password = \"file:password\"\n", "");
    fixture.write("alone.toml", &alone);
    let said = fixture.fleet(&["ping", "-i", "alone.toml"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    let start = "fleet: two1: unreachable: login of ops needs more than key ";
    assert!(said.stderr.starts_with(start) && said.stderr.contains("(the server offers password)"), "{said:?}");
}
