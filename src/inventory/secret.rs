//! Where passwords and passphrases come from.

use std::collections::HashMap;
use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};
use crate::host::{Secret, SecretRef};

/// What a secret is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SecretUse {
    /// The login password.
    Password,
    /// The answer to another question of the login, by a piece of the question.
    Answer(String),
    /// The passphrase of encrypted keys.
    Passphrase,
    /// The password for `--become`.
    Become,
}

impl SecretUse {
    /// Returns the inventory key that gives it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Answer(_) => "answers",
            Self::Passphrase => "passphrase",
            Self::Become => "become_password",
        }
    }
}

impl fmt::Display for SecretUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(question) => write!(f, "answer to {question:?}"),
            other => f.write_str(other.as_str()),
        }
    }
}

/// Fetches secrets by reference; asked only for hosts that are selected.
pub trait Secrets {
    /// Fetches one secret for a host.
    ///
    /// The same reference comes once for each set of hosts that is configured alike: an implementation keeps what it fetched.
    ///
    /// # Errors
    ///
    /// Whatever keeps the secret from being fetched, without any part of it.
    fn fetch(&mut self, reference: &SecretRef, what: &SecretUse, host: &str) -> Result<Secret>;
}

/// Secrets for who only looks at hosts and logs in to none: each is empty, and nothing is fetched.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn fetch(&mut self, _: &SecretRef, _: &SecretUse, _: &str) -> Result<Secret> {
        Ok(Secret::from(""))
    }
}

/// What is written for a reference, for messages that refuse something else.
pub(super) const SECRET_FORMS: &str =
    "write \"env:NAME\", \"file:PATH\", \"cmd:COMMAND\", \"ask\" or { literal = \"…\" }";

impl SecretRef {
    /// Reads `env:NAME`, `file:PATH` (with `~/`), `cmd:COMMAND` or `ask`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Usage`] that says what may be written and never repeats the text: it may be the secret itself.
    pub fn parse(text: &str) -> Result<Self> {
        let rest = |scheme: &str| text.strip_prefix(scheme).filter(|rest| !rest.trim().is_empty());
        if text == "ask" {
            Ok(Self::Ask)
        } else if let Some(name) = rest("env:") {
            Ok(Self::Env(name.to_owned()))
        } else if let Some(path) = rest("file:") {
            Ok(Self::File(expand_home(path)))
        } else if let Some(command) = rest("cmd:") {
            Ok(Self::Cmd(command.to_owned()))
        } else {
            Err(Error::new(ErrorKind::Usage, format!("not a reference to a secret: {SECRET_FORMS}")))
        }
    }
}

/// Replaces a leading `~/` by the home directory.
pub(super) fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), dirs::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

type Ask<'a> = Box<dyn FnMut(&SecretUse, &str) -> Result<Secret> + 'a>;
type Warn<'a> = Box<dyn FnMut(&str) + 'a>;

/// The secrets of this machine: environment, files, commands, and a person to ask.
///
/// Each reference is fetched once, `ask` once per use; a failure is not kept.
///
/// # Examples
///
/// ```
/// use fleet::inventory::{LocalSecrets, SecretUse, Secrets};
/// use fleet::{Secret, SecretRef};
///
/// let mut secrets = LocalSecrets::new().on_ask(|_, _| Ok(Secret::from("typed")));
/// assert_eq!(secrets.fetch(&SecretRef::Ask, &SecretUse::Password, "web01")?.expose(), "typed");
/// # Ok::<(), fleet::Error>(())
/// ```
#[derive(Default)]
pub struct LocalSecrets<'a> {
    ask: Option<Ask<'a>>,
    warn: Option<Warn<'a>>,
    warned: bool,
    fetched: HashMap<SecretRef, Secret>,
    asked: HashMap<SecretUse, Secret>,
}

impl fmt::Debug for LocalSecrets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSecrets").field("fetched", &self.fetched.len()).finish_non_exhaustive()
    }
}

impl<'a> LocalSecrets<'a> {
    /// Makes a source that can neither ask nor warn.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what `ask` calls, with the use and the first host that needs it.
    #[must_use]
    pub fn on_ask(mut self, ask: impl FnMut(&SecretUse, &str) -> Result<Secret> + 'a) -> Self {
        self.ask = Some(Box::new(ask));
        self
    }

    /// Sets what is told, once, that the inventory holds a secret itself.
    #[must_use]
    pub fn on_warning(mut self, warn: impl FnMut(&str) + 'a) -> Self {
        self.warn = Some(Box::new(warn));
        self
    }

    fn fetch_ask(&mut self, what: &SecretUse, host: &str) -> Result<Secret> {
        if let Some(secret) = self.asked.get(what) {
            return Ok(secret.clone());
        }
        let Some(ask) = &mut self.ask else { return Err(usage("\"ask\" needs a terminal")) };
        let secret = ask(what, host)?;
        self.asked.insert(what.clone(), secret.clone());
        Ok(secret)
    }
}

impl Secrets for LocalSecrets<'_> {
    /// # Blocking
    ///
    /// A `cmd:` is waited for without a limit, and so is a person.
    fn fetch(&mut self, reference: &SecretRef, what: &SecretUse, host: &str) -> Result<Secret> {
        if let Some(secret) = self.fetched.get(reference) {
            return Ok(secret.clone());
        }
        let secret = match reference {
            SecretRef::Ask => return self.fetch_ask(what, host),
            SecretRef::Env(name) => from_env(name)?,
            SecretRef::File(path) => from_file(path)?,
            SecretRef::Cmd(command) => from_command(command)?,
            SecretRef::Literal(secret) => {
                if let (Some(warn), false) = (&mut self.warn, self.warned) {
                    let article = if matches!(what, SecretUse::Answer(_)) { "an" } else { "a" };
                    warn(&format!("the inventory holds {article} {what} itself: {SECRET_FORMS}"));
                }
                self.warned = true;
                secret.clone()
            }
        };
        self.fetched.insert(reference.clone(), secret.clone());
        Ok(secret)
    }
}

fn from_env(name: &str) -> Result<Secret> {
    let value = match std::env::var(name) {
        Ok(value) => Zeroizing::new(value),
        Err(std::env::VarError::NotPresent) => return Err(usage(format!("environment variable {name} is not set"))),
        Err(std::env::VarError::NotUnicode(_)) => {
            return Err(usage(format!("environment variable {name} is not UTF-8")));
        }
    };
    match value.is_empty() {
        true => Err(usage(format!("environment variable {name} is empty"))),
        false => Ok(Secret::new(value.as_str())),
    }
}

/// Longer first lines than this are no secret.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

fn from_file(path: &Path) -> Result<Secret> {
    let shown = path.display();
    let failed = |error| usage(format!("cannot read {shown}")).caused_by(error);
    let file = std::fs::File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let mode = meta.permissions().mode() & 0o7777;
    if meta.is_file() && mode & 0o077 != 0 {
        return Err(usage(format!("{shown} can be read by others (mode {mode:04o}): run chmod 600 {shown}")));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    file.take(MAX_SECRET_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    first_line(&bytes).ok_or_else(|| usage(format!("the first line of {shown} is empty or not UTF-8")))
}

fn from_command(command: &str) -> Result<Secret> {
    let output = Command::new("sh").arg("-c").arg(command).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| usage(format!("cannot run \"{command}\"")).caused_by(error))?;
    let bytes = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(usage(format!("\"{command}\" failed ({})", output.status)));
    }
    first_line(&bytes).ok_or_else(|| usage(format!("\"{command}\" printed an empty first line, or not UTF-8")))
}

fn first_line(bytes: &[u8]) -> Option<Secret> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).ok()?;
    (!text.is_empty()).then(|| Secret::new(text))
}

fn usage(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, what)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs::Permissions;

    use super::*;

    fn fetch(reference: &SecretRef) -> Result<Secret> {
        LocalSecrets::new().fetch(reference, &SecretUse::Password, "web01")
    }

    fn cmd(command: impl Into<String>) -> SecretRef {
        SecretRef::Cmd(command.into())
    }

    #[test]
    fn references_are_read_and_anything_else_is_not_repeated() {
        assert_eq!(SecretRef::parse("env:A").unwrap(), SecretRef::Env("A".into()));
        assert_eq!(SecretRef::parse("file:/a b").unwrap(), SecretRef::File("/a b".into()));
        assert_eq!(SecretRef::parse("cmd:pass x").unwrap(), SecretRef::Cmd("pass x".into()));
        assert_eq!(SecretRef::parse("ask").unwrap(), SecretRef::Ask);
        for text in ["hunter2", "env:", "file: ", "ASK", "vault:hunter2", ""] {
            let error = SecretRef::parse(text).unwrap_err().to_string();
            assert!(error.starts_with("not a reference to a secret: write"), "{error}");
            assert!(!error.contains("hunter2"));
        }
    }

    #[test]
    fn a_file_others_can_read_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\r\nsecond\n").unwrap();
        let reference = SecretRef::File(file.path().to_owned());
        assert_eq!(fetch(&reference).unwrap().expose(), "hunter2");
        std::fs::set_permissions(file.path(), Permissions::from_mode(0o640)).unwrap();
        let shown = file.path().display();
        assert_eq!(
            fetch(&reference).unwrap_err().to_string(),
            format!("{shown} can be read by others (mode 0640): run chmod 600 {shown}")
        );
    }

    #[test]
    fn a_command_runs_once_and_its_output_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let count = dir.path().join("count");
        let reference = cmd(format!("echo x >> {}; echo hunter2; echo second", count.display()));
        let mut secrets = LocalSecrets::new();
        for host in ["a", "b"] {
            assert_eq!(secrets.fetch(&reference, &SecretUse::Password, host).unwrap().expose(), "hunter2");
        }
        assert_eq!(std::fs::read_to_string(count).unwrap(), "x\n");
        let error = fetch(&cmd("echo hunter2; exit 3")).unwrap_err();
        assert_eq!(error.chain(), "\"echo hunter2; exit 3\" failed (exit status: 3)");
        assert!(fetch(&cmd("true")).is_err());
    }

    #[test]
    fn a_missing_variable_is_named() {
        let error = fetch(&SecretRef::Env("FLEET_TEST_UNSET".into())).unwrap_err();
        assert_eq!(error.to_string(), "environment variable FLEET_TEST_UNSET is not set");
    }

    #[test]
    fn ask_asks_once_per_use_and_a_literal_warns_once() {
        let (asked, warned) = (Cell::new(0), Cell::new(0));
        let mut secrets = LocalSecrets::new()
            .on_ask(|what, _| {
                asked.set(asked.get() + 1);
                Ok(Secret::from(what.as_str()))
            })
            .on_warning(|message| {
                assert!(!message.contains("hunter2"));
                warned.set(warned.get() + 1);
            });
        for what in [SecretUse::Password, SecretUse::Password, SecretUse::Become] {
            assert_eq!(secrets.fetch(&SecretRef::Ask, &what, "a").unwrap().expose(), what.as_str());
        }
        for literal in ["hunter2", "hunter22"] {
            let literal = Secret::from(literal);
            let fetched = secrets.fetch(&SecretRef::Literal(literal.clone()), &SecretUse::Password, "a").unwrap();
            assert_eq!(fetched, literal);
        }
        assert_eq!((asked.get(), warned.get()), (2, 1));
        assert_eq!(fetch(&SecretRef::Ask).unwrap_err().to_string(), "\"ask\" needs a terminal");
    }
}
