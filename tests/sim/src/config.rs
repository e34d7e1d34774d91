//! What to simulate: plain data.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::faults::Fault;
use crate::keys::{FixtureKey, KeyKind};

/// Everything that [`Sim::start`](crate::Sim::start) needs to know.
#[derive(Clone, Debug, Default)]
pub struct SimConfig {
    /// The hosts, in inventory order.
    pub hosts: Vec<HostPlan>,
    /// Host keys are derived from it: the same seed and position give the same key.
    pub seed: u64,
    /// Where scratch homes are made; a temporary directory, removed at the end, when `None`.
    pub dir: Option<PathBuf>,
    /// Threads of the simulator's runtime; 0 means 2.
    pub threads: usize,
    /// What [`Sim::inventory`](crate::Sim::inventory) says about the client's side.
    pub inventory: InventoryPlan,
}

/// The `[defaults]` of the generated inventory.
#[derive(Clone, Debug, Default)]
pub struct InventoryPlan {
    /// The login name; the first user of the first host when `None`.
    pub user: Option<String>,
    /// The private key.
    pub identity: Option<PathBuf>,
    /// A password reference such as `env:SIM_PASSWORD`.
    pub password: Option<String>,
    /// The known_hosts file to use.
    pub known_hosts: Option<PathBuf>,
}

impl SimConfig {
    /// `count` hosts of one plan, named `sim0001` upwards.
    pub fn uniform(count: usize, plan: HostPlan) -> Self {
        Self { hosts: vec![plan; count], ..Self::default() }
    }

    /// Hosts of several plans.
    pub fn of(hosts: Vec<HostPlan>) -> Self {
        Self { hosts, ..Self::default() }
    }

    /// Sets the seed of the host keys.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Makes scratch homes below `dir` instead of in a temporary directory.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// The inventory names this private key.
    #[must_use]
    pub fn identity(mut self, path: impl Into<PathBuf>) -> Self {
        self.inventory.identity = Some(path.into());
        self
    }

    /// The inventory names this password reference, for example `env:SIM_PASSWORD`.
    #[must_use]
    pub fn password_ref(mut self, reference: impl Into<String>) -> Self {
        self.inventory.password = Some(reference.into());
        self
    }

    /// The inventory names this known_hosts file.
    #[must_use]
    pub fn known_hosts(mut self, path: impl Into<PathBuf>) -> Self {
        self.inventory.known_hosts = Some(path.into());
        self
    }
}

/// One host.
#[derive(Clone, Debug)]
pub struct HostPlan {
    /// The inventory name; `sim0001` and so on, by position, when `None`.
    pub name: Option<String>,
    /// What a command does.
    pub mode: Mode,
    /// Who may log in, and how.
    pub logins: Logins,
    /// What goes wrong, if anything.
    pub fault: Option<Fault>,
    /// The kinds of host keys, in the server's order; one ed25519 key by default. RSA keys are shared by all hosts of a simulator.
    pub host_keys: Vec<KeyKind>,
    /// A banner shown before the login (RFC 4252 section 5.4).
    pub banner: Option<String>,
    /// How many connections may be unauthenticated at once: further ones read `Exceeded MaxStartups` and are closed.
    pub max_startups: Option<usize>,
    /// How many sessions one connection may hold, 10 by default as in sshd.
    pub max_sessions: usize,
    /// The round trip of the link; bandwidth is not limited.
    pub rtt: Option<Duration>,
    /// The home directory; a scratch directory when `None`.
    pub home: Option<PathBuf>,
    /// The shell that runs commands, `/bin/sh` by default.
    pub shell: PathBuf,
    /// Variables added to the environment of commands (a `PATH` here replaces the default).
    pub env: Vec<(String, String)>,
    /// Whether `direct-tcpip` channels (jump hosts) to loopback addresses are allowed, true by default.
    pub forwarding: bool,
    /// Confines SFTP to the home directory, which becomes `/`.
    pub sftp_chroot: bool,
    /// Lies and limits of the SFTP server.
    pub sftp_evil: Option<SftpEvil>,
}

impl Default for HostPlan {
    fn default() -> Self {
        Self {
            name: None,
            mode: Mode::Shell,
            logins: Logins::default(),
            fault: None,
            host_keys: vec![KeyKind::Ed25519],
            banner: None,
            max_startups: None,
            max_sessions: 10,
            rtt: None,
            home: None,
            shell: PathBuf::from("/bin/sh"),
            env: Vec::new(),
            forwarding: true,
            sftp_chroot: false,
            sftp_evil: None,
        }
    }
}

impl HostPlan {
    /// A faultless host with real shells where nobody may log in yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the inventory name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets what a command does.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets who may log in.
    #[must_use]
    pub fn logins(mut self, logins: Logins) -> Self {
        self.logins = logins;
        self
    }

    /// Sets what goes wrong.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// Sets the kinds of host keys.
    #[must_use]
    pub fn host_keys(mut self, kinds: impl Into<Vec<KeyKind>>) -> Self {
        self.host_keys = kinds.into();
        self
    }

    /// Sets the banner before the login.
    #[must_use]
    pub fn banner(mut self, text: impl Into<String>) -> Self {
        self.banner = Some(text.into());
        self
    }

    /// Limits unauthenticated connections.
    #[must_use]
    pub fn max_startups(mut self, limit: usize) -> Self {
        self.max_startups = Some(limit);
        self
    }

    /// Limits sessions per connection.
    #[must_use]
    pub fn max_sessions(mut self, limit: usize) -> Self {
        self.max_sessions = limit;
        self
    }

    /// Sets the round trip of the link.
    #[must_use]
    pub fn rtt(mut self, rtt: Duration) -> Self {
        self.rtt = Some(rtt);
        self
    }

    /// Sets the home directory, which must exist.
    #[must_use]
    pub fn home(mut self, home: impl Into<PathBuf>) -> Self {
        self.home = Some(home.into());
        self
    }

    /// Adds a variable to the environment of commands.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Makes the SFTP server lie.
    #[must_use]
    pub fn sftp_evil(mut self, evil: SftpEvil) -> Self {
        self.sftp_evil = Some(evil);
        self
    }
}

/// What a command does.
#[derive(Clone, Debug)]
pub enum Mode {
    /// A real shell with `-c COMMAND`, in the host's home directory.
    Shell,
    /// A fixed answer; no process is started.
    Canned(Canned),
}

impl Mode {
    /// Answers every command with this standard output and status 0.
    pub fn canned(stdout: impl Into<Vec<u8>>) -> Self {
        Self::Canned(Canned::new(stdout))
    }
}

/// A fixed answer.
#[derive(Clone, Debug, Default)]
pub struct Canned {
    /// Standard output, sent first.
    pub stdout: Repeated,
    /// Standard error, sent after it.
    pub stderr: Repeated,
    /// The exit status.
    pub exit: u32,
    /// How long the command seems to run before it answers.
    pub delay: Option<Duration>,
}

impl Canned {
    /// This standard output once, and status 0.
    pub fn new(stdout: impl Into<Vec<u8>>) -> Self {
        Self { stdout: Repeated::once(stdout), ..Self::default() }
    }

    /// Repeats the standard output.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.stdout.times = times;
        self
    }

    /// Adds standard error.
    #[must_use]
    pub fn stderr(mut self, bytes: impl Into<Vec<u8>>, times: u64) -> Self {
        self.stderr = Repeated { bytes: bytes.into(), times };
        self
    }

    /// Sets the exit status.
    #[must_use]
    pub fn exit(mut self, exit: u32) -> Self {
        self.exit = exit;
        self
    }

    /// Sets how long the command seems to run.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }
}

/// Some bytes, several times: 5 MB are described in a line.
#[derive(Clone, Debug, Default)]
pub struct Repeated {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How many times.
    pub times: u64,
}

impl Repeated {
    /// The bytes once.
    pub fn once(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), times: 1 }
    }

    /// How many bytes that makes.
    pub fn len(&self) -> u64 {
        (self.bytes.len() as u64).saturating_mul(self.times)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Who may log in, and how.
#[derive(Clone, Debug, Default)]
pub struct Logins {
    /// Accounts by name.
    pub users: BTreeMap<String, User>,
    /// The methods offered, in order. Empty: publickey where an account has keys, password where one has a password.
    pub methods: Vec<Method>,
    /// Whether all offered methods must succeed one after the other (partial success, RFC 4252 section 5.1).
    pub all_required: bool,
    /// A second keyboard-interactive question, `Verification code: `, and its answer.
    pub code: Option<String>,
    /// Whether every account is let in as soon as its name is told (`none`, RFC 4252 section 5.2), as some appliances do.
    pub unasked: bool,
    /// Whether both questions come in one request.
    pub is_code_with_password: bool,
}

impl Logins {
    /// One user with a password.
    pub fn password(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self::default().with_password(user, password)
    }

    /// One user with an accepted key.
    pub fn key(user: impl Into<String>, key: &FixtureKey) -> Self {
        Self::default().with_key_line(user, &key.public)
    }

    /// Adds a user with a password, or a password to a user.
    #[must_use]
    pub fn with_password(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.users.entry(user.into()).or_default().password = Some(password.into());
        self
    }

    /// Accepts the public key line (as in authorized_keys) for the user.
    #[must_use]
    pub fn with_key_line(mut self, user: impl Into<String>, line: impl Into<String>) -> Self {
        self.users.entry(user.into()).or_default().keys.push(line.into());
        self
    }

    /// Offers these methods only.
    #[must_use]
    pub fn methods(mut self, methods: impl Into<Vec<Method>>) -> Self {
        self.methods = methods.into();
        self
    }

    /// Lets every account in unasked.
    #[must_use]
    pub fn unasked(mut self) -> Self {
        self.unasked = true;
        self
    }

    /// Requires every offered method.
    #[must_use]
    pub fn all_required(mut self) -> Self {
        self.all_required = true;
        self
    }

    /// The methods offered.
    pub fn offered(&self) -> Vec<Method> {
        if !self.methods.is_empty() {
            return self.methods.clone();
        }
        let mut methods = Vec::new();
        if self.users.values().any(|user| !user.keys.is_empty()) {
            methods.push(Method::PublicKey);
        }
        if self.users.values().any(|user| user.password.is_some()) {
            methods.push(Method::Password);
        }
        if methods.is_empty() {
            methods.push(Method::PublicKey);
        }
        methods
    }
}

/// One account.
#[derive(Clone, Debug, Default)]
pub struct User {
    /// The password, for `password` and `keyboard-interactive`.
    pub password: Option<String>,
    /// Accepted keys, as OpenSSH public key lines.
    pub keys: Vec<String>,
}

/// A method of logging in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// `publickey`.
    PublicKey,
    /// `password`.
    Password,
    /// `keyboard-interactive`: `Password: `, as PAM asks.
    KeyboardInteractive,
}

/// Lies of the SFTP server, for the client to refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SftpEvil {
    /// Every listed directory also has entries with these names; each stats as an ordinary file.
    Names(Vec<Vec<u8>>),
    /// Attributes claim this many bytes more (or fewer) than the file has.
    SizeLie(i64),
    /// A directory listing never ends.
    EndlessDirectory,
    /// Every directory seems to hold a directory `loop` that is the directory itself.
    DirectoryLoop,
    /// Every directory also lists a symbolic link `link` to this target, followed by a directory and a file of that name.
    LinkThenDirectory(Vec<u8>),
    /// Reads answer with more bytes than were asked for.
    LongReads,
    /// Reads answer with at most this many bytes, wherever in a file: as servers with small packets do, and all with files of `/proc`.
    ShortReads(u32),
    /// No extensions: without `posix-rename@openssh.com` no name is taken that exists.
    NoExtensions,
    /// An open file has no attributes to set (as of Erlang's server, which says that there is no such file); a path has.
    NoOpenModes,
    /// Nothing has a mode to set, as where files are no real ones: object stores behind SFTP.
    NoModes,
}

impl SftpEvil {
    /// The names that no client may use as they are: empty, dots, separators, NUL, absolute.
    pub fn bad_names() -> Self {
        let names: [&[u8]; 9] =
            [b"", b".", b"..", b"a/b", b"../../evil", b"..\\evil", b"x\0y", b"/tmp/fleet-sim-evil", b"\x1b]0;evil\x07"];
        Self::Names(names.iter().map(|name| name.to_vec()).collect())
    }
}
