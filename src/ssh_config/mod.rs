//! OpenSSH's client configuration, as ssh_config(5) describes it: parsed once, then looked up host by host.
//!
//! `Host` with patterns and negation, `Match` (`all`, `host`, `originalhost`, `user`, `localuser`, `final`, `exec` if the
//! caller allows it), `Include`, tokens and variables. The first value of a keyword wins, but for `IdentityFile` and
//! `CertificateFile`, which add up. Values keep the line they come from.
//!
//! What differs from ssh: a keyword that is not kept is listed, not refused; a criterion of `Match` that is not known never
//! holds, with a warning; host names are not canonicalised.
//!
//! # Examples
//!
//! ```
//! use fleet::ssh_config::{Given, Keyword, Local, SshConfig};
//!
//! let text = "Host web* !web9\n  User www\n  IdentityFile /keys/%r\nHost *\n  HostName %h.example.com\n  Port 2222\n";
//! let config = SshConfig::parse(text, "config".as_ref(), Local::from_system())?;
//! let found = config.lookup("web1", &Given::default())?;
//! assert_eq!((&*found.address, found.port()), ("web1.example.com", Some(2222)));
//! let key = &found.all(Keyword::IdentityFile)[0];
//! assert_eq!((&*key.text, key.origin.to_string()), ("/keys/www", "config:3".to_owned()));
//! # Ok::<(), fleet::Error>(())
//! ```

pub(crate) mod algorithms;
mod file;
mod keyword;
mod line;
mod lookup;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Result;
use file::{ConfigFile, Directive, Reading, usage};

pub use keyword::Keyword;

/// Where something stands; shown as `file:line`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Origin {
    /// The file, as it was named.
    pub file: Arc<Path>,
    /// The line, from 1 on.
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// Who runs this, and where: what `~` and the tokens stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Local {
    /// The user's name (`%u`, `Match localuser`).
    pub user: String,
    /// The user's number (`%i`), who may own configuration files beside root.
    pub uid: u32,
    /// The user's home directory (`~`, `%d`).
    pub home: PathBuf,
    /// This machine's name (`%l`, `%L`).
    pub host_name: String,
}

impl Local {
    /// Asks the system; the home directory is `$HOME` if that is set.
    pub fn from_system() -> Self {
        let uid = nix::unistd::getuid();
        let user = nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name);
        let user = user.or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "root".to_owned());
        let host_name = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
        Self { user, uid: uid.as_raw(), home: dirs::home_dir().unwrap_or_default(), host_name }
    }
}

/// Configuration files that were read.
#[derive(Clone, Debug)]
pub struct SshConfig {
    files: Vec<ConfigFile>,
    local: Local,
}

/// What is settled before any file is asked, as with `ssh -l`, `-p` and `-o HostName=`.
#[derive(Clone, Copy, Default)]
pub struct Given<'a> {
    /// The login name: `User` has no say.
    pub user: Option<&'a str>,
    /// The port: `Port` has no say.
    pub port: Option<u16>,
    /// The address: `HostName` has no say.
    pub host_name: Option<&'a str>,
    /// Runs a command for `Match exec` and tells whether it succeeded. Without it such blocks do not match, with a warning.
    pub exec: Option<&'a dyn Fn(&str) -> bool>,
}

impl fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given")
            .field("user", &self.user)
            .field("port", &self.port)
            .field("host_name", &self.host_name)
            .finish_non_exhaustive()
    }
}

/// A value and the line it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Value {
    /// The value with `~`, tokens and variables expanded; switches are `yes` and `no`, times are seconds.
    pub text: String,
    /// The value as it is written.
    pub raw: String,
    /// Where it stands.
    pub origin: Origin,
}

/// A keyword on a host's way that is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Ignored {
    /// The keyword, in lower case.
    pub keyword: String,
    /// Where it stands.
    pub origin: Origin,
    /// Why it has no effect, where that is not plain.
    pub why: Option<&'static str>,
}

impl Ignored {
    pub(crate) fn new(keyword: &str, origin: Origin) -> Self {
        Self { keyword: keyword.to_owned(), origin, why: None }
    }
}

/// What the files say of one host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Effective {
    /// Where the host is: what was given, else `HostName`, else the name; in lower case.
    pub address: String,
    values: BTreeMap<Keyword, Vec<Value>>,
    /// Keywords that apply to the host and are not kept, in the order they were met.
    pub ignored: Vec<Ignored>,
    /// Blocks that could not be judged.
    pub warnings: Vec<String>,
}

impl Effective {
    /// Returns a keyword's value, the first where there are several.
    pub fn first(&self, keyword: Keyword) -> Option<&Value> {
        self.all(keyword).first()
    }

    /// Returns every value of a keyword that may have several.
    pub fn all(&self, keyword: Keyword) -> &[Value] {
        self.values.get(&keyword).map_or(&[], Vec::as_slice)
    }

    /// Returns the port.
    pub fn port(&self) -> Option<u16> {
        self.first(Keyword::Port)?.text.parse().ok()
    }

    /// Returns what is set.
    pub fn keywords(&self) -> impl Iterator<Item = Keyword> {
        self.values.keys().copied()
    }
}

impl SshConfig {
    /// Reads what ssh reads without `-F`: `~/.ssh/config`, then `/etc/ssh/ssh_config`; a file that is missing is empty.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage): a file that cannot be read, a malformed line (with file and line), and
    /// a file of the user's that others may write to.
    pub fn load_default(local: Local) -> Result<Self> {
        let user = local.home.join(".ssh").join("config");
        let mut files = Vec::new();
        files.extend(Reading { local: &local, is_users: true, is_guarded: true }.read(&user)?);
        let system = Reading { local: &local, is_users: false, is_guarded: false };
        files.extend(system.read(Path::new("/etc/ssh/ssh_config"))?);
        Ok(Self { files, local })
    }

    /// Reads one file, as `ssh -F` does: no other, whoever may write to it.
    ///
    /// # Errors
    ///
    /// As [`load_default`](Self::load_default), and if there is no such file.
    pub fn load(path: &Path, local: Local) -> Result<Self> {
        let reading = Reading { local: &local, is_users: true, is_guarded: false };
        match reading.read(path)? {
            Some(file) => Ok(Self { files: vec![file], local }),
            None => Err(usage(format!("cannot read ssh_config {}: there is no such file", path.display()))),
        }
    }

    /// Reads a user's file from text; the path is what errors name.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn parse(text: &str, path: &Path, local: Local) -> Result<Self> {
        let file = Reading { local: &local, is_users: true, is_guarded: false }.parse(text, path, 0)?;
        Ok(Self { files: vec![file], local })
    }

    /// Puts this configuration above another one, as if the other's files were read after it.
    #[must_use]
    pub fn above(mut self, other: Self) -> Self {
        self.files.extend(other.files);
        self
    }

    /// Returns the literal names after `Host`: those without a pattern or a negation, each once, in the order of the files.
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        collect_names(&self.files, &mut names);
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(*name));
        names
    }

    /// Returns what the files say of a host.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage), with file and line: a token, variable or user that is not known.
    pub fn lookup(&self, name: &str, given: &Given<'_>) -> Result<Effective> {
        lookup::lookup(&self.files, &self.local, name, given)
    }
}

fn collect_names<'a>(files: &'a [ConfigFile], names: &mut Vec<&'a str>) {
    for line in files.iter().flat_map(|file| &file.lines) {
        match &line.directive {
            Directive::Host(patterns) => {
                let literal = patterns.iter().filter(|host| !host.is_negated && !host.pattern.contains(['*', '?']));
                names.extend(literal.map(|host| &*host.pattern));
            }
            Directive::Include(files) => collect_names(files, names),
            _ => {}
        }
    }
}
