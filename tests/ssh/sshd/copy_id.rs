//! Installing keys: what stands in `authorized_keys` afterwards, and that sshd lets the key in.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleet::op::{CopiedId, CopyId, Proof};
use fleet::{AgentUse, Class, Host, HostResult, Identity, PublicKey, Secret};
use tempfile::TempDir;

use super::logins::{Agent, sign};
use super::{Ground, keygen};
use crate::ground::{exec, fanout, pool, run};

/// A server whose user's home is empty, and a new key.
struct Home {
    ground: Ground,
    dir: TempDir,
    key: PathBuf,
}

impl Home {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(config: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        let (key, _) = keygen(dir.path(), "new", &["-t", "ed25519", "-N", "", "-C", "it's \"me\" \\ 1!"]);
        let home = dir.path().join("home").display().to_string();
        let ground = Ground::with(|mut builder| {
            for line in config {
                builder = builder.config(line);
            }
            // The first is what the ground's own login is by.
            builder.config(&format!("SetEnv HOME={home}")).config("MaxAuthTries 1").second_authorized_keys(&home)
        });
        Self { ground, dir, key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("home").join(name)
    }

    fn file(&self) -> PathBuf {
        self.path(".ssh/authorized_keys")
    }

    fn write(&self, text: &str) {
        fs::create_dir_all(self.path(".ssh")).unwrap();
        fs::write(self.file(), text).unwrap();
    }

    fn public(&self) -> String {
        fs::read_to_string(self.key.with_extension("pub")).unwrap()
    }

    fn op(&self) -> CopyId {
        CopyId::new(PublicKey::parse(&self.public()).unwrap()).prove_by(Identity::File(self.key.clone()))
    }

    fn copy(&self) -> HostResult<CopiedId> {
        run(self.ground.host(), self.op())
    }

    fn by_key(&self) -> Host {
        let mut host = self.ground.host();
        host.auth.identities = vec![Identity::File(self.key.clone())];
        host
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// What is told of a host where all went well: whether the key is new.
fn added(result: &HostResult<CopiedId>) -> bool {
    assert_eq!(result.class(), Class::Ok, "{result:?}");
    let copied = result.value().unwrap();
    assert!(matches!(copied.proof, Proof::LoggedIn), "{result:?}");
    copied.is_added.unwrap()
}

#[test]
fn a_key_is_added_once_and_lets_in() {
    let home = Home::new();
    assert_eq!(exec(home.by_key(), "true").class(), Class::Unreachable);
    let result = home.copy();
    assert!(added(&result));
    assert_eq!(result.report.attempts, 1);
    assert_eq!(exec(home.by_key(), "true").class(), Class::Ok);
    assert_eq!(fs::read_to_string(home.file()).unwrap(), home.public());
    assert_eq!((mode(&home.path(".ssh")), mode(&home.file())), (0o700, 0o600));
    assert!(!added(&home.copy()));
    assert_eq!(fs::read_to_string(home.file()).unwrap(), home.public());
    assert_eq!(fs::read_dir(home.path(".ssh")).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn what_is_there_stays_byte_for_byte_with_its_mode() {
    let home = Home::new();
    let old = "# mine\r\n\n  from=\"10.0.0.1\",command=\"a b\" ssh-rsa AAAAB3 x\n\tssh-dss AAAA without an end \\n";
    home.write(old);
    fs::set_permissions(home.file(), Permissions::from_mode(0o664)).unwrap();
    fs::set_permissions(home.path(".ssh"), Permissions::from_mode(0o775)).unwrap();
    assert!(added(&home.copy()));
    assert_eq!(fs::read_to_string(home.file()).unwrap(), format!("{old}\n{}", home.public()));
    // What others may write, sshd does not trust.
    assert_eq!((mode(&home.path(".ssh")), mode(&home.file())), (0o755, 0o644));
}

#[test]
fn a_key_with_options_or_another_comment_counts_as_there() {
    let home = Home::new();
    let public = home.public();
    let bare = public.split(' ').take(2).collect::<Vec<_>>().join(" ");
    for line in [bare.clone(), format!("no-pty,environment=\"A=b c\" {bare} other\n"), bare.replace(' ', "\t ")] {
        home.write(&line);
        assert!(!added(&home.copy()), "{line}");
        assert_eq!(fs::read_to_string(home.file()).unwrap(), line);
    }
    for line in [format!("#{bare}\n"), format!("  # {bare}\n"), format!("cert-authority {bare}\n")] {
        home.write(&line);
        assert!(added(&home.copy()), "{line}");
        assert_eq!(fs::read_to_string(home.file()).unwrap(), format!("{line}{public}"));
    }
}

#[test]
fn a_symbolic_link_stays_one() {
    let home = Home::new();
    home.write("");
    fs::remove_file(home.file()).unwrap();
    fs::create_dir(home.path("kept here")).unwrap();
    fs::write(home.path("kept here/keys"), "# kept\n").unwrap();
    symlink("../kept here/keys", home.file()).unwrap();
    assert!(added(&home.copy()));
    assert!(fs::symlink_metadata(home.file()).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(home.path("kept here/keys")).unwrap(), format!("# kept\n{}", home.public()));
    assert_eq!(fs::read_dir(home.path("kept here")).unwrap().count(), 1);
}

#[test]
fn many_at_once_on_one_host_lose_nothing() {
    let home = Home::new();
    home.write("# old");
    let keys: Vec<_> =
        (0..12).map(|number| keygen(home.dir.path(), &format!("key{number}"), &["-t", "ed25519", "-N", ""])).collect();
    let pool = pool().fanout(fanout(24)).build();
    // Each key twice.
    let jobs: Vec<_> = keys
        .iter()
        .chain(&keys)
        .map(|(path, public)| {
            let op = CopyId::new(PublicKey::parse(public).unwrap()).prove_by(Identity::File(path.clone()));
            pool.submit(&Arc::new(home.ground.host()), op).unwrap()
        })
        .collect();
    let count = jobs.into_iter().map(|job| added(&job.get())).filter(|is_added| *is_added).count();
    assert_eq!(count, keys.len());
    let file = fs::read_to_string(home.file()).unwrap();
    let mut lines: Vec<_> = file.lines().skip(1).collect();
    lines.sort_unstable();
    let mut expected: Vec<_> = keys.iter().map(|(_, public)| public.trim_end()).collect();
    expected.sort_unstable();
    assert_eq!(lines, expected);
    assert_eq!(fs::read_dir(home.path(".ssh")).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_written_is_named_and_left_alone() {
    let home = Home::new();
    fs::create_dir_all(home.file()).unwrap();
    let result = home.copy();
    assert_eq!(result.class(), Class::Failed, "{result:?}");
    assert_eq!(
        result.report.reason().unwrap(),
        "the key could not be added: .ssh/authorized_keys is not a regular file"
    );
    fs::remove_dir_all(home.path(".ssh")).unwrap();
    fs::write(home.path(".ssh"), "").unwrap();
    let reason = home.copy().report.reason().unwrap();
    assert!(reason.starts_with("the key could not be added: cannot make ~/.ssh: mkdir: "), "{reason}");
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    // A limit on the size of files stands for a disk that is full: the copy fits and what is added does not.
    let home = Home::with(&["ForceCommand trap '' XFSZ; ulimit -f 1; exec sh -c \"$SSH_ORIGINAL_COMMAND\""]);
    let old = format!("#{}\n", "x".repeat(510 + 500));
    home.write(&old);
    let result = home.copy();
    assert_eq!(result.class(), Class::Failed, "{result:?}");
    let reason = result.report.reason().unwrap();
    assert!(reason.starts_with("the key could not be added: cannot write to .ssh"), "{reason}");
    assert_eq!(fs::read_to_string(home.file()).unwrap(), old);
    assert_eq!(fs::read_dir(home.path(".ssh")).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn an_account_without_a_shell_is_said_to_have_none() {
    let home = Home::with(&["ForceCommand echo This account is not available."]);
    let reason = home.copy().report.reason().unwrap();
    let expected =
        "the key could not be added: the host ran no shell command, but said: This account is not available.";
    assert_eq!(reason, expected);
}

#[test]
fn a_key_that_sshd_does_not_look_at_is_added_and_not_proved() {
    let home = Home::new();
    // Where the other file was, sshd looks; this home is another one.
    let other = home.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    let ground = Ground::with(|builder| builder.config(&format!("SetEnv HOME={}", other.display())));
    let result = run(ground.host(), home.op());
    assert_eq!(result.class(), Class::Failed, "{result:?}");
    let copied = result.value().unwrap();
    assert!(copied.is_added == Some(true) && matches!(copied.proof, Proof::Failed(_)), "{copied:?}");
    let reason = result.report.reason().unwrap();
    let start = format!(
        "the key was added, but does not log in: login refused for {}: key {}",
        ground.sshd.user(),
        home.key.display()
    );
    assert!(reason.starts_with(&start), "{reason}");
    assert!(reason.ends_with("; see AuthorizedKeysFile and StrictModes in the host's sshd_config"), "{reason}");
    assert_eq!(fs::read_to_string(other.join(".ssh/authorized_keys")).unwrap(), home.public());
    let result = run(ground.host(), home.op().without_proof());
    assert_eq!((result.class(), result.value().unwrap().is_added), (Class::Ok, Some(false)));
}

#[test]
fn the_proof_is_by_that_key_and_by_no_certificate_agent_key_or_password() {
    let home = Home::new();
    let dir = home.dir.path();
    let (authority, _) = keygen(dir, "ca", &["-t", "ed25519", "-N", ""]);
    let trusted = format!("TrustedUserCAKeys {}", dir.join("ca.pub").display());
    let other = dir.join("other");
    fs::create_dir(&other).unwrap();
    let ground = Ground::with(|builder| builder.config(&trusted).config(&format!("SetEnv HOME={}", other.display())));
    sign(dir, &authority, "new", &ground.sshd.user(), "always:forever");
    // The certificate lets in, and so does a key that the agent has: neither is a proof of this key.
    let mut host = ground.host();
    host.auth.identities = vec![Identity::File(home.key.clone())];
    assert_eq!(exec(host, "true").class(), Class::Ok);
    let agent = Agent::start(dir);
    agent.add(&ground.key);
    agent.add(&home.key);
    let mut host = ground.host();
    host.auth.agent = AgentUse::On(agent.socket.clone());
    host.auth.password = Some(Secret::from("secret"));
    let result = run(host.clone(), home.op());
    assert_eq!(result.class(), Class::Failed, "{result:?}");
    // A stale public half is none of this private one.
    let (wrong, _) = keygen(dir, "wrong", &["-t", "ed25519", "-N", ""]);
    fs::copy(home.key.with_extension("pub"), dir.join("wrong.pub")).unwrap();
    host.auth.agent = AgentUse::Off;
    let op = CopyId::new(PublicKey::parse(&home.public()).unwrap()).prove_by(Identity::File(wrong));
    let reason = run(host, op).report.reason().unwrap();
    assert!(reason.ends_with("wrong is not the private half of the wanted key"), "{reason}");
}

#[test]
fn an_agent_proves_a_key_that_is_nowhere_else() {
    let home = Home::new();
    let agent = Agent::start(home.dir.path());
    agent.add(&home.key);
    fs::remove_file(&home.key).unwrap();
    let mut host = home.ground.host();
    host.auth.agent = AgentUse::OnlyConfigured(agent.socket.clone());
    let keys = fleet::SshTransport::new().agent_keys(&host);
    assert_eq!(keys, [PublicKey::parse(&home.public()).unwrap()]);
    assert!(added(&run(host, CopyId::new(keys[0].clone()))));
}
