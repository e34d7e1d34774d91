//! Keys let in where only a password did, whatever the login shell is.

use crate::fixture::{Turn, fixture};

const FILE: &str = "/home/ops/.ssh/authorized_keys";

/// Makes a new key and removes what earlier tests let in.
fn new_key(fixture: &Turn, name: &str, hosts: &[&str]) -> String {
    for host in hosts {
        fixture.on(host, "rm -rf /home/ops/.ssh");
    }
    for file in [name.to_owned(), format!("{name}.pub")] {
        let _ = std::fs::remove_file(fixture.path(&file));
    }
    let mut keygen = std::process::Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "o'brien \"x\" \\ $HOME !", "-f"]).arg(fixture.path(name));
    assert!(keygen.status().unwrap().success());
    fixture.read(&format!("{name}.pub"))
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_key_is_let_in_by_password_on_every_host_and_proved() {
    let fixture = fixture();
    let hosts = ["pw1", "pw2", "pw3"];
    let public = new_key(&fixture, "id_new", &hosts);
    let args = ["copy-id", "-i", "hosts.toml", "-w", "pw[1-3]", "--key", "id_new"];
    let said = fixture.fleet(&args);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(sorted(&said.stdout), ["pw1: added", "pw2: added", "pw3: added"]);
    for host in hosts {
        assert_eq!(fixture.on(host, &format!("cat {FILE}")), public);
        let modes = fixture.on(host, &format!("stat -c '%a %U %n' /home/ops/.ssh {FILE}; ls -A /home/ops/.ssh"));
        assert_eq!(modes, format!("700 ops /home/ops/.ssh\n600 ops {FILE}\nauthorized_keys\n"));
        // The login before it was by password, the proof by key.
        assert!(fixture.log(host).contains("Accepted publickey for ops"), "{host}");
    }
    let said = fixture.fleet(&args);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(sorted(&said.stdout), ["pw1: already there", "pw2: already there", "pw3: already there"]);
    assert_eq!(fixture.on("pw1", &format!("cat {FILE}")), public);
}

#[test]
fn every_login_shell_carries_the_command() {
    let fixture = fixture();
    fixture.on("pw1", "ln -sf /bin/busybox /usr/local/bin/ash");
    for shell in ["/bin/dash", "/bin/bash", "/usr/bin/zsh", "/usr/bin/fish", "/usr/local/bin/ash"] {
        let public = new_key(&fixture, "id_shell", &["pw1"]);
        fixture.on("pw1", &format!("usermod -s {shell} ops"));
        let said = fixture.fleet(&["copy-id", "-i", "hosts.toml", "-w", "pw1", "--key", "id_shell"]);
        let file = fixture.on("pw1", &format!("cat {FILE}"));
        fixture.on("pw1", "usermod -s /bin/bash ops");
        assert_eq!((said.code, &*said.stdout), (Some(0), "pw1: added\n"), "{shell}: {said:?}");
        assert_eq!(file, public, "{shell}");
    }
}

#[test]
fn a_home_that_cannot_be_written_and_a_file_that_is_none_are_named() {
    let mut fixture = fixture();
    new_key(&fixture, "id_none", &["pw2"]);
    let copy = |fixture: &Turn| fixture.fleet(&["copy-id", "-i", "hosts.toml", "-w", "pw2", "--key", "id_none"]);
    // ops may not write here.
    fixture.on("pw2", "chown root:root /home/ops");
    let said = copy(&fixture);
    fixture.on("pw2", "chown ops:ops /home/ops");
    assert_eq!((said.code, &*said.stdout), (Some(1), ""), "{said:?}");
    let start = "fleet: pw2: failed: the key could not be added: cannot make ~/.ssh: mkdir: ";
    assert!(said.stderr.starts_with(start) && said.stderr.contains("Permission denied"), "{said:?}");
    // A device stands behind the name of the file.
    fixture.disturb();
    fixture.on("pw2", &format!("mkdir /home/ops/.ssh && ln -s /dev/full {FILE} && chown -h ops /home/ops/.ssh {FILE}"));
    let said = copy(&fixture);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("the key could not be added: /dev/full is not a regular file"), "{said:?}");
    fixture.on("pw2", "rm -rf /home/ops/.ssh");
}

#[test]
fn a_server_that_takes_no_keys_is_not_proved() {
    let fixture = fixture();
    new_key(&fixture, "id_kbd", &["kbd1"]);
    let said = fixture.fleet(&["copy-id", "-i", "hosts.toml", "-w", "kbd1", "--key", "id_kbd"]);
    assert_eq!((said.code, &*said.stdout), (Some(1), "kbd1: added\n"), "{said:?}");
    let lines = said.lines("fleet: kbd1: failed: the key was added, but does not log in: login refused for ops: ");
    assert!(lines.len() == 1 && lines[0].contains("(the server offers keyboard-interactive)"), "{said:?}");
}
