//! The simulator and its hosts.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use russh::SshId;
use russh::keys::PrivateKey;
use russh::server::Config;
use tokio::runtime::Runtime;

use crate::accounts::Accounts;
use crate::config::{HostPlan, Mode, SimConfig};
use crate::faults::Fault;
use crate::inbox::WINDOW_BYTES;
use crate::keys::{self, KeyKind};
use crate::line::{Control, End};
use crate::stats::{Counters, Stats, Tally};
use crate::{accept, inventory, net, procs, raw};

/// sshd's MaxAuthTries, plus the `none` request that clients begin with and russh counts.
const AUTH_ATTEMPTS: usize = 7;

/// Running hosts. Dropping it ends them: listeners, connections, and every process that they started.
#[derive(Debug)]
pub struct Sim {
    runtime: Option<Runtime>,
    hosts: Vec<SimHost>,
    total: Arc<Counters>,
    config: SimConfig,
    dir: PathBuf,
    _scratch: Option<tempfile::TempDir>,
}

impl Sim {
    /// Starts the hosts, each on its own address of 127.0.0.0/8 and all on one port.
    ///
    /// # Errors
    /// When no port can be had, a directory cannot be made, a key line is malformed, or the system's limits are too low.
    pub fn start(config: SimConfig) -> io::Result<Self> {
        net::raise_file_limit();
        let (dir, scratch) = match &config.dir {
            Some(dir) => (dir.clone(), None),
            None => {
                let scratch = tempfile::Builder::new().prefix("fleet-sim-").tempdir()?;
                (scratch.path().to_owned(), Some(scratch))
            }
        };
        let threads = if config.threads == 0 { 2 } else { config.threads };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("fleet-sim")
            .enable_all()
            .build()?;
        let total = Arc::<Counters>::default();
        let mut keyring = Keyring::new(config.seed);
        let listeners = net::bind(config.hosts.len())?;
        let mut hosts = Vec::with_capacity(listeners.len());
        let guard = runtime.enter();
        for (index, (plan, listener)) in config.hosts.iter().zip(listeners).enumerate() {
            let address = listener.local_addr()?;
            let host = Host::new(plan, index, address, &dir, &total, &mut keyring)?;
            let host = Arc::new(host);
            if matches!(plan.mode, Mode::Shell) {
                host.home()?;
            }
            let listener = tokio::net::TcpListener::from_std(listener)?;
            runtime.spawn(accept::serve(Arc::clone(&host), listener));
            hosts.push(SimHost { host });
        }
        drop(guard);
        Ok(Self { runtime: Some(runtime), hosts, total, config, dir, _scratch: scratch })
    }

    /// The hosts, in the order of their plans.
    pub fn hosts(&self) -> &[SimHost] {
        &self.hosts
    }

    /// The host of this name.
    pub fn host(&self, name: &str) -> Option<&SimHost> {
        self.hosts.iter().find(|host| host.name() == name)
    }

    /// The counters of all hosts together; peaks are of the sums.
    pub fn stats(&self) -> Stats {
        self.total.snapshot()
    }

    /// The directory of the scratch homes.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The port that all hosts listen on; 0 without hosts.
    pub fn port(&self) -> u16 {
        self.hosts.first().map_or(0, |host| host.address().port())
    }

    /// A fleet inventory (TOML) of the hosts.
    pub fn inventory(&self) -> String {
        inventory::toml(&self.config, &self.hosts)
    }

    /// Writes [`Sim::inventory`] to a file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_inventory(&self, path: impl AsRef<Path>) -> io::Result<()> {
        std::fs::write(path, self.inventory())
    }

    /// The host keys of all hosts, in the form of a known_hosts file.
    pub fn known_hosts(&self) -> String {
        inventory::known_hosts(&self.hosts)
    }

    /// Writes [`Sim::known_hosts`] to a file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_known_hosts(&self, path: impl AsRef<Path>) -> io::Result<()> {
        std::fs::write(path, self.known_hosts())
    }

    /// Processes that any of the hosts started, directly or not, and that still run. Reads all of /proc.
    pub fn processes(&self) -> Vec<i32> {
        procs::of_servers(self.owner())
    }

    fn owner(&self) -> impl Fn(SocketAddr) -> bool {
        let ours: Vec<SocketAddr> = self.hosts.iter().map(SimHost::address).collect();
        move |address| ours.binary_search(&address).is_ok()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting is not possible inside another runtime.
            if tokio::runtime::Handle::try_current().is_ok() {
                runtime.shutdown_background();
            } else {
                runtime.shutdown_timeout(Duration::from_secs(2));
            }
        }
        let shells = self.config.hosts.iter().any(|plan| matches!(plan.mode, Mode::Shell));
        if shells && self.total.commands.load(Relaxed) > 0 {
            procs::kill_all(self.owner());
        }
    }
}

/// One running host.
#[derive(Clone, Debug)]
pub struct SimHost {
    host: Arc<Host>,
}

impl SimHost {
    /// The inventory name.
    pub fn name(&self) -> &str {
        &self.host.name
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.host.address
    }

    /// Its first host key as a known_hosts line: `[127.44.1.1]:40001 ssh-ed25519 AAAA…`.
    pub fn host_key_line(&self) -> &str {
        self.host.key_lines.first().map_or("", String::as_str)
    }

    /// All its host keys as known_hosts lines.
    pub fn host_key_lines(&self) -> &[String] {
        &self.host.key_lines
    }

    /// Its home directory, which exists from the start where there are shells, else from the first use of SFTP.
    pub fn home(&self) -> &Path {
        &self.host.home
    }

    /// Its counters.
    pub fn stats(&self) -> Stats {
        self.host.tally.host.snapshot()
    }

    /// Processes that this host started, directly or not, and that still run. Reads all of /proc.
    pub fn processes(&self) -> Vec<i32> {
        let address = self.address();
        procs::of_servers(|server| server == address)
    }

    /// Changes the fault of connections from now on.
    pub fn set_fault(&self, fault: Option<Fault>) {
        *self.host.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Closes every open connection, as when the server process dies.
    pub fn disconnect_all(&self) {
        self.host.each_line(|line| line.end(End::Cut));
    }

    /// Resets every open connection (TCP RST).
    pub fn reset_all(&self) {
        self.host.each_line(|line| line.end(End::Reset));
    }

    /// Freezes every open connection: nothing is sent, read or closed any more, as when a cable is pulled.
    pub fn freeze_all(&self) {
        self.host.each_line(|line| line.end(End::Freeze));
    }

    /// Lets frozen connections go on.
    pub fn thaw_all(&self) {
        self.host.each_line(Control::thaw);
    }
}

/// What the tasks of a host share.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) plan: HostPlan,
    pub(crate) address: SocketAddr,
    pub(crate) accounts: Accounts,
    pub(crate) config: Arc<Config>,
    pub(crate) tally: Tally,
    /// Connections closed by `CutBeforeLogin`, or that would have been.
    pub(crate) cuts: AtomicU64,
    /// How many bytes `DiskFull` has let through.
    pub(crate) written_bytes: Arc<AtomicU64>,
    key_lines: Vec<String>,
    home: PathBuf,
    home_made: OnceLock<()>,
    fault: Mutex<Option<Fault>>,
    lines: Mutex<Vec<Weak<Control>>>,
    wrong: OnceLock<Arc<Config>>,
    wrong_seed: [u8; 32],
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("name", &self.name).field("address", &self.address).finish_non_exhaustive()
    }
}

impl Host {
    fn new(
        plan: &HostPlan,
        index: usize,
        address: SocketAddr,
        dir: &Path,
        total: &Arc<Counters>,
        keyring: &mut Keyring,
    ) -> io::Result<Self> {
        let name = plan.name.clone().unwrap_or_else(|| format!("sim{:04}", index + 1));
        let accounts = Accounts::new(&plan.logins)?;
        let mut host_keys = Vec::with_capacity(plan.host_keys.len());
        for kind in &plan.host_keys {
            host_keys.push(keyring.key(*kind, index as u64)?);
        }
        let key_lines = host_keys
            .iter()
            .map(|key| {
                let public = keys::public_line(key.public_key())?;
                Ok(format!("[{}]:{} {public}", address.ip(), address.port()))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            config: Arc::new(server_config(host_keys, &accounts)),
            accounts,
            address,
            tally: Tally { host: Arc::default(), total: Arc::clone(total) },
            cuts: AtomicU64::new(0),
            written_bytes: Arc::default(),
            key_lines,
            home: plan.home.clone().unwrap_or_else(|| dir.join(&name)),
            home_made: OnceLock::new(),
            fault: Mutex::new(plan.fault.clone()),
            lines: Mutex::default(),
            wrong: OnceLock::new(),
            wrong_seed: keys::seed_of(keyring.seed, index as u64, 1),
            plan: plan.clone(),
            name,
        })
    }

    /// The home directory, made on first use.
    pub(crate) fn home(&self) -> io::Result<&Path> {
        if self.home_made.get().is_none() {
            std::fs::create_dir_all(&self.home)?;
            self.home_made.get_or_init(|| ());
        }
        Ok(&self.home)
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes a connection for [`SimHost::disconnect_all`] and its like.
    pub(crate) fn remember(&self, control: &Arc<Control>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == lines.capacity() {
            lines.retain(|line| line.strong_count() > 0);
        }
        lines.push(Arc::downgrade(control));
    }

    fn each_line(&self, act: impl Fn(&Control)) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter_map(Weak::upgrade).for_each(|line| act(&line));
    }

    /// The configuration with a key that `host_key_line` does not name.
    pub(crate) fn wrong_config(&self) -> io::Result<Arc<Config>> {
        if let Some(config) = self.wrong.get() {
            return Ok(Arc::clone(config));
        }
        let key = keys::derive(KeyKind::Ed25519, self.wrong_seed)?;
        let config = Arc::new(server_config(vec![key], &self.accounts));
        Ok(Arc::clone(self.wrong.get_or_init(|| config)))
    }
}

fn server_config(keys: Vec<PrivateKey>, accounts: &Accounts) -> Config {
    Config {
        server_id: SshId::Standard(raw::VERSION.into()),
        methods: accounts.methods(),
        auth_rejection_time: Duration::ZERO,
        keys,
        window_size: WINDOW_BYTES,
        max_auth_attempts: AUTH_ATTEMPTS,
        inactivity_timeout: None,
        ..Config::default()
    }
}

/// Makes host keys. RSA keys may take a second each: all hosts share one of each size.
struct Keyring {
    seed: u64,
    rsa: HashMap<KeyKind, PrivateKey>,
}

impl Keyring {
    fn new(seed: u64) -> Self {
        Self { seed, rsa: HashMap::new() }
    }

    fn key(&mut self, kind: KeyKind, index: u64) -> io::Result<PrivateKey> {
        if matches!(kind, KeyKind::Ed25519 | KeyKind::EcdsaP256) {
            return keys::derive(kind, keys::seed_of(self.seed, index, 0));
        }
        if let Some(key) = self.rsa.get(&kind) {
            return Ok(key.clone());
        }
        let key = keys::derive(kind, keys::seed_of(self.seed, 0, 0))?;
        self.rsa.insert(kind, key.clone());
        Ok(key)
    }
}
