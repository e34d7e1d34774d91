//! What is known of a host, before and after resolving: plain data, no behaviour.

mod auth;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

pub use auth::{AgentUse, Answer, Auth, Identity, LoginMethod};

/// A secret value: wiped from memory when the last clone is dropped, never shown.
///
/// It has no `Display` and no `Serialize`, and its `Debug` is `Secret(…)`. Two secrets are compared by value, so that a
/// run can tell which hosts share one.
#[derive(Clone)]
pub struct Secret {
    value: Arc<Zeroizing<String>>,
    is_typed: bool,
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for Secret {}

impl std::hash::Hash for Secret {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.expose().hash(state);
    }
}

impl Secret {
    /// Takes a secret over.
    pub fn new(value: impl Into<String>) -> Self {
        Self { value: Arc::new(Zeroizing::new(value.into())), is_typed: false }
    }

    /// Takes over a secret that somebody has just typed: nobody checked it, so one refusal is enough to doubt it.
    pub fn typed(value: impl Into<String>) -> Self {
        Self { is_typed: true, ..Self::new(value) }
    }

    /// Tells whether it was typed for this run.
    pub fn is_typed(&self) -> bool {
        self.is_typed
    }

    /// Returns the value, for the call that needs it and nothing else.
    pub fn expose(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self::new(value)
    }
}

/// Where a secret comes from, as the inventory or a flag says it; never the secret itself, but for a literal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SecretRef {
    /// `env:NAME`: an environment variable.
    Env(String),
    /// `file:PATH`: the first line of a file; refused when others can read it.
    File(PathBuf),
    /// `cmd:COMMAND`: the first line a local command prints; run once per distinct command.
    Cmd(String),
    /// `ask`: typed at a prompt, once per run.
    Ask,
    /// `{ literal = "…" }`: the value itself; warned about once.
    Literal(Secret),
}

/// How a server's key is judged (DESIGN section 7; OpenSSH's `StrictHostKeyChecking`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HostKeyPolicy {
    /// Only keys that known_hosts has.
    Strict,
    /// Unknown keys are recorded; changed and revoked ones are refused. The default.
    #[default]
    AcceptNew,
    /// Any key but a revoked one; nothing is recorded.
    Off,
}

impl HostKeyPolicy {
    /// Every policy, as flags and inventories spell it.
    pub const NAMES: [&'static str; 3] = ["strict", "accept-new", "off"];

    /// Reads a policy as flags and inventories spell it.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "strict" => Some(Self::Strict),
            "accept-new" => Some(Self::AcceptNew),
            "off" => Some(Self::Off),
            _ => None,
        }
    }

    /// Returns the name as flags and inventories spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::AcceptNew => "accept-new",
            Self::Off => "off",
        }
    }
}

/// Which algorithms are offered, best first. An empty list, the default of each, offers all there are.
///
/// Names that there are not are passed over; a list of nothing else ends the login.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Algorithms {
    /// Key exchange methods (OpenSSH's `KexAlgorithms`).
    pub key_exchange: Vec<String>,
    /// Algorithms of the server's key (`HostKeyAlgorithms`). Those of keys that known_hosts has of the host go first.
    pub host_key: Vec<String>,
    /// Ciphers, for both directions (`Ciphers`).
    pub ciphers: Vec<String>,
    /// Message authentication codes, for both directions (`MACs`). libssh2 agrees on one even for chacha20-poly1305 and
    /// AES-GCM, which use none; where `ciphers` has only these, the list does not count.
    pub macs: Vec<String>,
    /// Signatures to log in with (`PubkeyAcceptedAlgorithms`): other keys and certificates are not offered.
    pub signatures: Vec<String>,
}

/// Which addresses of a host are tried (OpenSSH's `AddressFamily`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AddressFamily {
    /// All of them, in the order of RFC 6724. The default.
    #[default]
    Any,
    /// IPv4 alone.
    Inet,
    /// IPv6 alone.
    Inet6,
}

impl AddressFamily {
    /// Reads a family as ssh_config(5) spells it: `any`, `inet` or `inet6`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "any" => Some(Self::Any),
            "inet" => Some(Self::Inet),
            "inet6" => Some(Self::Inet6),
            _ => None,
        }
    }
}

/// How a host's SSH port is reached.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Route {
    /// By a TCP connection of our own. The default.
    #[default]
    Direct,
    /// Through a bastion, which resolves the address and connects to it (OpenSSH's `ProxyJump`). All hosts behind equal
    /// bastions share a connection. A bastion may be behind another.
    Jump(Arc<Host>),
    /// Through the standard input and output of a local command (OpenSSH's `ProxyCommand`), which `$SHELL -c` runs.
    Command(String),
}

/// How commands become another user's, as a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BecomeBy {
    /// By `sudo` on the host.
    Sudo,
    /// Not at all: the login's user runs them.
    Nothing,
}

impl BecomeBy {
    /// Every way, as flags and inventories spell it.
    pub const NAMES: [&'static str; 2] = ["sudo", "none"];

    /// Reads a way as flags and inventories spell it.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "sudo" => Some(Self::Sudo),
            "none" => Some(Self::Nothing),
            _ => None,
        }
    }

    /// Returns the name as flags and inventories spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sudo => "sudo",
            Self::Nothing => "none",
        }
    }
}

/// That commands and scripts run as another user than the login's, by `sudo` on the host. Files are always the login's.
///
/// The password that `sudo` may ask the login's user for is [`Host::become_password`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Become {
    /// As whom: a name, or `#` and a number. Default: `root`.
    pub user: String,
}

impl Become {
    /// Makes it `root`.
    pub fn sudo() -> Self {
        Self { user: "root".to_owned() }
    }

    /// Sets another user.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = user.into();
        self
    }
}

/// The waits on the way to one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// From resolving to the end of the login, all attempts and their backoff together. Default 10 s.
    pub connect: Duration,
    /// How often a silent connection is asked for a sign of life. Default 15 s, at least 2 s; zero turns it off.
    pub alive_interval: Duration,
    /// After how many such intervals without a byte the connection is `lost`. Default 3.
    pub alive_count: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), alive_interval: Duration::from_secs(15), alive_count: 3 }
    }
}

/// A value of the inventory's `vars`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Var {
    /// A string.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A list.
    List(Vec<Var>),
    /// A table.
    Table(BTreeMap<String, Var>),
}

impl fmt::Display for Var {
    /// Writes the value as a template or a `vars.NAME=VALUE` selector reads it: a string without quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        f.write_str(",")?;
                    }
                    write!(f, "{item}")?;
                }
                Ok(())
            }
            Self::Table(items) => {
                for (index, (key, item)) in items.iter().enumerate() {
                    if index > 0 {
                        f.write_str(",")?;
                    }
                    write!(f, "{key}={item}")?;
                }
                Ok(())
            }
        }
    }
}

/// Settings that a flag, the environment, a host, a group or the defaults may give; unset where nobody said.
///
/// One such layer is merged over another by the inventory (DESIGN section 6); what is left unset takes its built-in value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// The login name.
    pub user: Option<String>,
    /// The TCP port.
    pub port: Option<u16>,
    /// The private keys.
    pub identity: Option<Vec<PathBuf>>,
    /// The socket of the SSH agent; the path `none` turns it off.
    pub agent: Option<PathBuf>,
    /// The login password.
    pub password: Option<SecretRef>,
    /// Answers to other questions of a keyboard-interactive login, by a piece of the question.
    pub answers: Option<BTreeMap<String, SecretRef>>,
    /// The passphrase of encrypted keys.
    pub passphrase: Option<SecretRef>,
    /// How commands become another user's.
    pub become_by: Option<BecomeBy>,
    /// Whose they become then.
    pub become_user: Option<String>,
    /// The password that is asked for on the way.
    pub become_password: Option<SecretRef>,
    /// The bastions, as `-J` spells them; `none` turns an inherited one off.
    pub jump: Option<String>,
    /// How the server's key is judged.
    pub host_key: Option<HostKeyPolicy>,
    /// Where keys are looked up and recorded, instead of the user's and the system's files.
    pub known_hosts: Option<PathBuf>,
    /// From resolving to the end of the login.
    pub connect_timeout: Option<Duration>,
    /// How often a drop before the login is tried again.
    pub retries: Option<u32>,
}

/// A host as an inventory names it, before its settings are resolved.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HostSpec {
    /// The inventory name: unique, and what every result is keyed by.
    pub name: String,
    /// A DNS name or an IP address; the name itself when unset.
    pub address: Option<String>,
    /// The host's own settings.
    pub settings: Settings,
    /// The host's own variables.
    pub vars: BTreeMap<String, Var>,
    /// The groups that name the host directly, in file order.
    pub groups: Vec<String>,
}

impl HostSpec {
    /// Makes a host with nothing but its name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            address: None,
            settings: Settings::default(),
            vars: BTreeMap::new(),
            groups: Vec::new(),
        }
    }
}

/// Everything about reaching one host. Nothing below the inventory reads flags, files or the environment for it.
///
/// Shared as `Arc<Host>`. Make one with [`Host::new`] and set what differs.
///
/// # Examples
///
/// ```
/// use fleet::{Host, Identity};
///
/// let mut host = Host::new("web01", "10.0.0.5");
/// host.port = 2222;
/// host.auth.identities.push(Identity::File("/home/ops/.ssh/id_ed25519".into()));
/// assert_eq!(host.known_hosts_name(), "[10.0.0.5]:2222");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Host {
    /// The inventory name.
    pub name: String,
    /// A DNS name or an IP address, without a port.
    pub address: String,
    /// The TCP port. Default 22.
    pub port: u16,
    /// The login name. Default: the local user's.
    pub user: String,
    /// How the port is reached. Default: directly.
    pub route: Route,
    /// How to log in.
    pub auth: Auth,
    /// As whom commands and scripts run, unless the operation says. Default: as the login's user.
    pub become_user: Option<Become>,
    /// The password that sudo may ask for: the login user's own.
    pub become_password: Option<Secret>,
    /// How the server's key is judged.
    pub host_key: HostKeyPolicy,
    /// Where keys are looked up; the first is where new ones are recorded.
    ///
    /// Empty means the user's `~/.ssh/known_hosts` and `/etc/ssh/ssh_known_hosts`.
    pub known_hosts: Vec<PathBuf>,
    /// The name to look the key up by, instead of the address (`HostKeyAlias`).
    pub host_key_alias: Option<String>,
    /// What is offered to the server in the key exchange and to log in.
    pub algorithms: Algorithms,
    /// Which of its addresses are tried.
    pub address_family: AddressFamily,
    /// The address of this machine to connect from, or a name of it (OpenSSH's `BindAddress`). Default: the system's choice.
    pub bind_address: Option<String>,
    /// The waits on the way to the host.
    pub timeouts: Timeouts,
    /// How often a drop before the login is tried again. Default 2.
    pub retries: u32,
    /// How often all addresses are tried, a second apart, before a host counts as not to be connected to (OpenSSH's
    /// `ConnectionAttempts`); the connect timeout bounds all of it. Default 1.
    pub connection_attempts: u32,
    /// What is asked to be set in the environment of commands (OpenSSH's `SetEnv`, RFC 4254 section 6.4), at the cost of
    /// a round trip each; servers refuse what their `AcceptEnv` does not name.
    pub env: Vec<(String, String)>,
    /// The host's variables, its groups' and the defaults' merged in.
    pub vars: BTreeMap<String, Var>,
    /// Every group that holds the host, directly or through children, nearest first.
    pub groups: Vec<String>,
}

impl Host {
    /// Makes a host with built-in settings.
    pub fn new(name: impl Into<String>, address: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            address: address.into(),
            port: 22,
            user: local_user(),
            route: Route::default(),
            auth: Auth::default(),
            become_user: None,
            become_password: None,
            host_key: HostKeyPolicy::default(),
            known_hosts: Vec::new(),
            host_key_alias: None,
            algorithms: Algorithms::default(),
            address_family: AddressFamily::default(),
            bind_address: None,
            timeouts: Timeouts::default(),
            retries: 2,
            connection_attempts: 1,
            env: Vec::new(),
            vars: BTreeMap::new(),
            groups: Vec::new(),
        }
    }

    /// Returns the bastion that the host is behind, if it is behind one.
    pub fn bastion(&self) -> Option<&Arc<Host>> {
        match &self.route {
            Route::Jump(bastion) => Some(bastion),
            Route::Direct | Route::Command(_) => None,
        }
    }

    /// Returns the bastions on the way to the host, the nearest to it first.
    pub fn bastions(&self) -> impl Iterator<Item = &Arc<Host>> {
        std::iter::successors(self.bastion(), |bastion| bastion.bastion())
    }

    /// Returns the name the host's key is filed under, as OpenSSH writes it: lower case, `[address]:port` off port 22.
    pub fn known_hosts_name(&self) -> String {
        if let Some(alias) = &self.host_key_alias {
            return alias.to_lowercase();
        }
        let address = self.address.to_lowercase();
        if self.port == 22 { address } else { format!("[{address}]:{}", self.port) }
    }
}

/// Returns the local user's name, as ssh takes it: from the user database, else from the environment.
///
/// Asked once: a directory server behind the database must not be asked again for each of a thousand hosts.
fn local_user() -> String {
    static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    NAME.get_or_init(|| {
        nix::unistd::User::from_uid(nix::unistd::getuid())
            .ok()
            .flatten()
            .map(|user| user.name)
            .or_else(|| std::env::var("USER").ok())
            .unwrap_or_else(|| "root".to_owned())
    })
    .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_shows() {
        let mut host = Host::new("a", "b");
        host.auth.password = Some(Secret::from("hunter2"));
        host.auth.identities.push(Identity::Memory(Secret::from("hunter2")));
        assert!(!format!("{host:?}").contains("hunter2"));
        assert!(!format!("{:?}", SecretRef::Literal(Secret::from("hunter2"))).contains("hunter2"));
    }

    #[test]
    fn keys_are_filed_as_openssh_does() {
        let mut host = Host::new("a", "DB.Example");
        assert_eq!(host.known_hosts_name(), "db.example");
        host.port = 2200;
        assert_eq!(host.known_hosts_name(), "[db.example]:2200");
        host.host_key_alias = Some("Cluster".into());
        assert_eq!(host.known_hosts_name(), "cluster");
    }
}
