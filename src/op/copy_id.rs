//! Installing a public key, and proving that it logs in.

use std::sync::Arc;

use super::{Job, Operation};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Class, Facts, Outcome, Stream};
use crate::host::{AgentUse, Host, Identity, Secret};
use crate::public_key::PublicKey;
use crate::transport::{Ended, ExecRequest, Session};

/// What is done on the host, for any POSIX shell. It holds no `'`, no `!` and no backslash before either, and goes over as
/// one line: so one pair of quotes carries it through sh, bash, zsh, fish and csh alike.
const SCRIPT: &str = include_str!("copy_id.sh");

/// What the lines of the script begin with.
const MARK: &str = "fleet-copy-id: ";

/// How much of what a host says is looked at, in bytes.
const MAX_SAID_BYTES: usize = 16 * 1024;

/// Adds a public key to `~/.ssh/authorized_keys`, unless it is there, and proves it by a login with that key alone.
///
/// A key counts as there with any options before it and any comment after it, but for `cert-authority`. Everything else in
/// the file stays byte for byte, a missing last newline aside. A copy of the file replaces it whole: a full disk or a
/// connection that ends leaves the old one. Owner, mode and security context are kept, and a symbolic link is followed.
/// Where they are new, `~/.ssh` gets mode 700 and the file 600; otherwise they only lose the group's and others' right to
/// write, which sshd's `StrictModes` refuses. Several at once on one host lose nothing.
///
/// The host needs a POSIX shell `sh`, whatever the login shell is.
///
/// # Examples
///
/// ```no_run
/// use std::path::Path;
/// use fleet::{Host, Identity, Pool, PublicKey, Secret, SshTransport, op::CopyId};
///
/// let mut host = Host::new("web01", "10.0.0.5");
/// host.auth.password = Some(Secret::from("correct horse"));
/// let key = PublicKey::read(Path::new("/home/ops/.ssh/id_ed25519.pub"))?;
/// let copy = CopyId::new(key).prove_by(Identity::File("/home/ops/.ssh/id_ed25519".into()));
/// let results = Pool::builder(SshTransport::new()).build().map(&[host.into()], copy);
/// assert!(results[0].is_ok());
/// # Ok::<(), fleet::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CopyId {
    key: PublicKey,
    is_proved: bool,
    identity: Option<Identity>,
    passphrase: Option<Secret>,
}

impl CopyId {
    /// Makes the operation; the key's private half is looked for in the agent of each host.
    pub fn new(key: PublicKey) -> Self {
        Self { key, is_proved: true, identity: None, passphrase: None }
    }

    /// Names the private half to prove the login with, where the agent does not have it.
    #[must_use]
    pub fn prove_by(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Sets the passphrase of the private half, for hosts that have none of their own.
    #[must_use]
    pub fn passphrase(mut self, passphrase: Secret) -> Self {
        self.passphrase = Some(passphrase);
        self
    }

    /// Leaves the proof out: for a key whose private half is somebody else's.
    #[must_use]
    pub fn without_proof(mut self) -> Self {
        self.is_proved = false;
        self
    }

    fn command(&self) -> String {
        let script = SCRIPT.lines().collect::<Vec<_>>().join(" ");
        let (key_type, base64) = (self.key.key_type(), self.key.base64());
        format!("exec sh -c '{script}' fleet {key_type} {base64} '{}'", escaped(self.key.comment()))
    }

    /// Returns the host as the proof logs in to it: by the one key, and neither by password nor by certificate.
    fn proof_host(&self, host: &Host) -> Arc<Host> {
        let mut host = host.clone();
        host.auth.password = None;
        host.auth.answers.clear();
        host.auth.identities = self.identity.iter().cloned().collect();
        if let Some(socket) = host.auth.agent.socket() {
            host.auth.agent = AgentUse::On(socket.to_owned());
        }
        if host.auth.passphrase.is_none() {
            host.auth.passphrase.clone_from(&self.passphrase);
        }
        host.auth.only_key = Some(self.key.blob().to_vec());
        Arc::new(host)
    }
}

/// Whether a key that was installed lets in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Proof {
    /// A login with that key alone succeeded.
    LoggedIn,
    /// It did not, and why.
    Failed(Error),
    /// None was wanted, or there is no key to log in with.
    NotTried,
}

/// What became of a key on one host.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CopiedId {
    /// Whether the key is new there; `None` where it could not be installed.
    pub is_added: Option<bool>,
    /// Whether it lets in.
    pub proof: Proof,
    /// How the command ended that installed it.
    pub ended: Ended,
    /// Why the key could not be installed, as the host said it; else empty.
    pub said: String,
}

impl Outcome for CopiedId {
    fn facts(&self) -> Facts {
        let mut facts = self.ended.facts();
        let state = match self.is_added {
            Some(true) => "the key was added",
            Some(false) => "the key is there already",
            None => {
                if facts.class == Class::Ok {
                    facts.class = Class::Failed;
                }
                if self.ended.killed.is_none() {
                    facts.reason = Some(format!("the key could not be added: {}", self.said));
                }
                return facts;
            }
        };
        if let Proof::Failed(error) = &self.proof {
            facts.class = Class::Failed;
            let mut reason = format!("{state}, but does not log in: {}", error.chain());
            if error.kind() == ErrorKind::Login {
                reason.push_str("; see AuthorizedKeysFile and StrictModes in the host's sshd_config");
            }
            facts.reason = Some(reason);
        }
        facts
    }
}

impl Operation for CopyId {
    type Output = CopiedId;

    fn name(&self) -> &str {
        "copy-id"
    }

    fn run(&self, session: &mut dyn Session, job: &Job<'_>) -> Result<CopiedId> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let request = ExecRequest::new(self.command());
        let ended = session.exec(&request, job.limits, job.budget, &mut |stream, bytes| {
            let said = match stream {
                Stream::Stdout => &mut stdout,
                Stream::Stderr => &mut stderr,
            };
            let room = MAX_SAID_BYTES.saturating_sub(said.len());
            said.extend(bytes.into_iter().take(room));
            Ok(())
        })?;
        let is_added = installed(&ended, &stdout);
        let mut copied = CopiedId { is_added, proof: Proof::NotTried, ended, said: String::new() };
        match is_added {
            None => copied.said = reason(&stdout, &stderr),
            Some(is_added) => {
                let word: &[u8] = if is_added { b"added\n" } else { b"already there\n" };
                job.output(Stream::Stdout, word.to_vec())?;
                if self.is_proved {
                    copied.proof = self.prove(job)?;
                }
            }
        }
        Ok(copied)
    }

    fn is_idempotent(&self) -> bool {
        true
    }
}

impl CopyId {
    /// Logs in again. What ends the run is an error; what ends only the login is the result.
    fn prove(&self, job: &Job<'_>) -> Result<Proof> {
        match job.connect(&self.proof_host(job.host)) {
            Ok(session) => {
                session.close();
                Ok(Proof::LoggedIn)
            }
            Err(error) => match error.kind() {
                ErrorKind::Cancelled | ErrorKind::Deadline | ErrorKind::LocalLimit => Err(error),
                _ => Ok(Proof::Failed(error)),
            },
        }
    }
}

/// Tells whether the script says that the key is new, among whatever else a login shell writes.
fn installed(ended: &Ended, stdout: &[u8]) -> Option<bool> {
    if !ended.is_ok() {
        return None;
    }
    let text = String::from_utf8_lossy(stdout);
    text.lines().rev().find_map(|line| match line.strip_prefix(MARK) {
        Some("added") => Some(true),
        Some("already there") => Some(false),
        _ => None,
    })
}

/// Returns why it did not work: the script's word first, then what its commands said.
fn reason(stdout: &[u8], stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let own = lines().rev().find_map(|line| line.strip_prefix(MARK));
    let other = lines().rfind(|line| !line.starts_with(MARK));
    match (own, other) {
        (Some(own), Some(other)) => format!("{own}: {other}"),
        (Some(only), None) | (None, Some(only)) => only.to_owned(),
        (None, None) => match String::from_utf8_lossy(stdout).lines().next() {
            Some(line) => format!("the host ran no shell command, but said: {line}"),
            None => "the host ran no shell command".to_owned(),
        },
    }
}

/// Writes a comment for `printf %b`, so that no shell on the way finds anything in it.
fn escaped(comment: &str) -> String {
    let mut text = String::new();
    for byte in comment.bytes() {
        match byte {
            b' ' | b'@' | b'.' | b'_' | b'-' | b'+' | b':' | b'/' => text.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
            byte => text.push_str(&format!("\\0{byte:03o}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{ExitStatus, MAX_COMMAND_BYTES};

    #[test]
    fn one_pair_of_quotes_carries_the_script_through_every_shell() {
        assert!(!SCRIPT.contains(['\'', '!']), "fish and csh read these inside quotes");
        assert!(!SCRIPT.contains(r"\\"));
        assert!(SCRIPT.len() < MAX_COMMAND_BYTES / 4);
        assert_eq!(escaped("o'brien\\ops@desk 1!"), "o\\0047brien\\0134ops@desk 1\\0041");
    }

    #[test]
    fn without_flock_many_at_once_lose_nothing_either() {
        let home = tempfile::tempdir().unwrap();
        let script = SCRIPT.lines().collect::<Vec<_>>().join(" ").replace("flock", "no-such-flock");
        let start = |number: usize| {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &script, "fleet", "ssh-ed25519", &format!("AAAA{}", number / 2), ""]);
            let silent = std::process::Stdio::null();
            shell.env("HOME", home.path()).stdout(std::process::Stdio::piped()).stderr(silent).spawn().unwrap()
        };
        let running: Vec<_> = (0..8).map(start).collect();
        let outputs = running.into_iter().map(|shell| shell.wait_with_output().unwrap());
        let mut said: Vec<_> = outputs.map(|output| String::from_utf8(output.stdout).unwrap()).collect();
        said.sort_unstable();
        assert_eq!(said.concat(), "fleet-copy-id: added\n".repeat(4) + &"fleet-copy-id: already there\n".repeat(4));
        let file = std::fs::read_to_string(home.path().join(".ssh/authorized_keys")).unwrap();
        let mut lines: Vec<_> = file.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["ssh-ed25519 AAAA0", "ssh-ed25519 AAAA1", "ssh-ed25519 AAAA2", "ssh-ed25519 AAAA3"]);
        assert_eq!(std::fs::read_dir(home.path().join(".ssh")).unwrap().count(), 1, "the lock is gone");
    }

    #[test]
    fn a_word_among_the_noise_of_a_login_shell_is_found() {
        let ended = |code| Ended::new(ExitStatus::Code(code), 0, 0);
        assert_eq!(installed(&ended(0), b"hello\nfleet-copy-id: added\nbye\n"), Some(true));
        assert_eq!(installed(&ended(0), b"fleet-copy-id: already there\n"), Some(false));
        assert_eq!(installed(&ended(1), b"fleet-copy-id: added\n"), None);
        assert_eq!(installed(&ended(0), b"This account is not available.\n"), None);
    }

    #[test]
    fn a_reason_names_what_could_not_be_done_and_why() {
        let stderr = b"motd\ncp: x: No space left on device\nfleet-copy-id: cannot write to .ssh\n";
        assert_eq!(reason(b"", stderr), "cannot write to .ssh: cp: x: No space left on device");
        assert_eq!(reason(b"", b"sh: not found\n"), "sh: not found");
        assert_eq!(reason(b"No.\n", b""), "the host ran no shell command, but said: No.");
    }
}
