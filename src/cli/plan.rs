//! From flags to hosts that can be contacted: everything that can be refused is refused here, before anything is contacted.

use std::cell::{Cell, OnceCell};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fleet::inventory::{
    Explanation, Inventory, LocalSecrets, Lookup, Names, NoSecrets, Overrides, Pick, SecretUse, Selector, Target,
};
use fleet::ssh_config::{Local, SshConfig};
use fleet::{ErrorKind, Host, HostKeyPolicy, Route, SecretRef, Settings, hostset};

use super::args::{BecomeUser, Connect, Order, Select};
use super::exit::Refusal;
use super::prompt;
use super::screen::Screen;
use super::{habits, stdin, usage};

/// The hosts that were selected, before they are resolved.
pub(crate) struct Selection {
    pub(crate) inventory: Inventory,
    pub(crate) targets: Vec<Target>,
    ssh_config: Option<Arc<SshConfig>>,
    /// What a choice at random was made by, where nobody gave it.
    drawn: Option<String>,
    /// As whom commands are said to run, where there are any.
    become_user: Option<Settings>,
}

/// The hosts that ssh_config names, and what standard input does.
struct Named<'a> {
    hosts: HashSet<&'a str>,
    stdin: OnceCell<fleet::Result<String>>,
}

impl Names for Named<'_> {
    fn names(&self, _: &str) -> Option<fleet::Result<Vec<String>>> {
        None
    }

    fn is_host(&self, name: &str) -> bool {
        self.hosts.contains(name)
    }

    fn stdin(&self) -> Option<fleet::Result<String>> {
        let read = || {
            stdin::claim("the hosts").map_err(|why| fleet::Error::new(ErrorKind::Usage, why))?;
            std::io::read_to_string(std::io::stdin().lock())
                .map_err(|error| fleet::Error::new(ErrorKind::Usage, "cannot read standard input").caused_by(error))
        };
        Some(self.stdin.get_or_init(read).clone())
    }
}

impl Selection {
    /// Reads the inventory and ssh_config, and selects.
    pub(crate) fn make(select: &Select, connect: &Connect) -> Result<Self, Refusal> {
        let inventory = match select.inventory.as_slice() {
            [path] if path == Path::new("none") => Inventory::empty(),
            named => Inventory::open_all(named, &Lookup::from_env())?,
        };
        let ssh_config = ssh_config(connect.ssh_config.as_deref(), inventory.ssh_configs())?;
        let hosts = ssh_config.iter().flat_map(|config| config.names()).collect();
        let named = Named { hosts, stdin: OnceCell::new() };
        let mut selector = Selector::default();
        selector.all = select.all;
        selector.hosts.clone_from(&select.hosts);
        selector.groups.clone_from(&select.group);
        selector.exclude.clone_from(&select.exclude);
        selector.slice = select.slice;
        selector.pick =
            select.pick.map(|count| Pick::new(count, select.seed.unwrap_or_else(|| fastrand::u32(..).into())));
        if select.seed.is_some() && select.pick.is_none() && usage::is_flag(std::env::args_os(), "seed") {
            return Err(Refusal::usage("--seed is for --pick N"));
        }
        if !selector.all && selector.hosts.is_empty() && selector.groups.is_empty() {
            selector.hosts.extend(variable("FLEET_HOSTS")?);
            selector.groups.extend(variable("FLEET_GROUP")?);
        }
        let targets = inventory.select_with(&selector, &named).map_err(|error| {
            let what = error.to_string();
            // One that cannot be read is shown with a caret already.
            let is_misspelt = what.contains('\n');
            let is_unknown = ["no host", "no group", "nothing"].iter().any(|words| what.contains(words));
            let refusal = Refusal::from(error);
            let mut written = selector.hosts.iter().chain(&selector.exclude);
            match inventory.source() {
                _ if let Some(hint) = written.find_map(|text| habits::selection(text)) => refusal.hint(hint),
                Some(path) if inventory.hosts().len() > 0 && is_unknown && !is_misspelt => {
                    refusal.hint(format!("fleet hosts -a -i {} lists what there is", path.display()))
                }
                _ => refusal,
            }
        })?;
        drop(named);
        let drawn = selector.pick.filter(|_| select.seed.is_none()).map(|pick| {
            let Pick { count, seed, .. } = pick;
            format!("--pick {count} --seed {seed} picks the same again")
        });
        Ok(Self { inventory, targets, ssh_config, drawn, become_user: None })
    }

    /// Says what a choice at random was made by, so that it can be repeated.
    pub(crate) fn tell(&self, screen: &Screen) {
        if let Some(drawn) = &self.drawn {
            screen.say(drawn);
        }
    }

    /// Lets commands run on the hosts: as whom, the inventory says, and these flags above it.
    pub(crate) fn run_commands(&mut self, flags: Option<&BecomeUser>) -> Result<(), Refusal> {
        let mut settings = Settings::default();
        if let Some(flags) = flags {
            flags.set(&mut settings)?;
        }
        self.become_user = Some(settings);
        Ok(())
    }

    /// Puts the hosts in the order they are started in.
    pub(crate) fn order(&mut self, order: Order) {
        match order {
            Order::File => {}
            Order::Name => self.targets.sort_by(|a, b| hostset::natural_cmp(&a.name, &b.name)),
            Order::Random => fastrand::shuffle(&mut self.targets),
        }
    }

    /// Resolves the hosts, asks for secrets, and says once what should be known.
    pub(crate) fn resolve(
        &self,
        connect: &Connect,
        screen: &Screen,
        is_quiet: bool,
    ) -> Result<Vec<Arc<Host>>, Refusal> {
        self.resolve_by(&self.overrides(connect)?, screen, is_quiet)
    }

    fn resolve_by(&self, overrides: &Overrides, screen: &Screen, is_quiet: bool) -> Result<Vec<Arc<Host>>, Refusal> {
        let mut warnings = Vec::new();
        let asked_in_vain = Cell::new(None);
        let ask = |what: &SecretUse, host: &str| {
            let for_sudo = *what == SecretUse::Become;
            prompt::secret(what, host).inspect_err(|error| asked_in_vain.set(Some((error.kind(), for_sudo))))
        };
        let mut secrets = LocalSecrets::new().on_ask(ask).on_warning(|warning| warnings.push(warning.to_owned()));
        let resolved = self.inventory.resolve(&self.targets, overrides, &mut secrets).map_err(|error| {
            let refusal = Refusal::from(error);
            match asked_in_vain.get() {
                Some((ErrorKind::Cancelled, _)) => prompt::interrupted().into(),
                Some((_, true)) => {
                    refusal.hint("give it with --become-password-from env:NAME, file:PATH or cmd:COMMAND")
                }
                Some(_) => refusal.hint("give it with --password-from env:NAME, file:PATH or cmd:COMMAND"),
                None => refusal,
            }
        })?;
        drop(secrets);
        warnings.extend(resolved.warnings);
        for warning in warnings.iter().filter(|_| !is_quiet) {
            screen.warn(warning);
        }
        Ok(resolved.hosts)
    }

    /// Resolves the hosts without any secret: to show them, not to reach them.
    pub(crate) fn resolve_for_show(&self, connect: &Connect) -> Result<Vec<Arc<Host>>, Refusal> {
        Ok(self.inventory.resolve(&self.targets, &self.overrides(connect)?, &mut NoSecrets)?.hosts)
    }

    /// Resolves the hosts to reach them without a login: no key file and no secret is looked at, but for bastions.
    pub(crate) fn resolve_for_keys(
        &self,
        connect: &Connect,
        screen: &Screen,
        is_quiet: bool,
        may_record: bool,
    ) -> Result<Vec<Arc<Host>>, Refusal> {
        let mut overrides = self.overrides(connect)?;
        overrides.flags.identity = Some(Vec::new());
        // Only the bastions are logged in to: without a yes their keys have to be known.
        overrides.flags.host_key = Some(if may_record { HostKeyPolicy::AcceptNew } else { HostKeyPolicy::Strict });
        overrides.without_logins = true;
        self.resolve_by(&overrides, screen, is_quiet)
    }

    /// Tells where the settings of each host come from.
    pub(crate) fn explain(&self, connect: &Connect) -> Result<Vec<Explanation>, Refusal> {
        let overrides = self.overrides(connect)?;
        let explanations = self.targets.iter().map(|target| self.inventory.explain(target, &overrides));
        Ok(explanations.collect::<fleet::Result<_>>()?)
    }

    fn overrides(&self, connect: &Connect) -> Result<Overrides, Refusal> {
        let mut overrides = Overrides::default();
        overrides.flags = settings(connect)?;
        if let Some(become_user) = &self.become_user {
            overrides.with_become = true;
            overrides.flags.become_by = become_user.become_by;
            overrides.flags.become_user.clone_from(&become_user.become_user);
            overrides.flags.become_password.clone_from(&become_user.become_password);
        }
        overrides.ssh_config.clone_from(&self.ssh_config);
        overrides.match_exec = connect.match_exec;
        overrides.agent = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from);
        Ok(overrides)
    }
}

/// Reads the configuration that is named, else what ssh reads; above it those that are inventories.
fn ssh_config(named: Option<&Path>, inventories: &[PathBuf]) -> Result<Option<Arc<SshConfig>>, Refusal> {
    let local = Local::from_system();
    let users = local.home.join(".ssh").join("config");
    let mut config = match named {
        Some(path) if path.as_os_str().eq_ignore_ascii_case("none") => None,
        Some(path) => Some(SshConfig::load(path, local.clone())?),
        None => Some(SshConfig::load_default(local.clone())?),
    };
    for path in inventories.iter().rev() {
        let same = named.unwrap_or(&users);
        if path.canonicalize().ok() != same.canonicalize().ok() {
            let above = SshConfig::load(path, local.clone())?;
            config = Some(match config {
                Some(below) => above.above(below),
                None => above,
            });
        }
    }
    Ok(config.map(Arc::new))
}

fn settings(connect: &Connect) -> Result<Settings, Refusal> {
    let mut flags = Settings::default();
    flags.user.clone_from(&connect.user);
    flags.port = connect.port;
    flags.identity = (!connect.identity.is_empty()).then(|| connect.identity.clone());
    flags.agent.clone_from(&connect.agent);
    flags.password = match &connect.password_from {
        _ if connect.ask_pass => Some(SecretRef::Ask),
        Some(text) => Some(SecretRef::parse(text).map_err(|_| {
            Refusal::usage("--password-from takes no password: write env:NAME, file:PATH, cmd:COMMAND or ask")
        })?),
        None => None,
    };
    flags.jump.clone_from(&connect.jump);
    flags.host_key = connect.host_key;
    flags.known_hosts.clone_from(&connect.known_hosts);
    flags.connect_timeout = connect.connect_timeout;
    flags.retries = connect.retries;
    Ok(flags)
}

/// Returns a variable that is set to something.
fn variable(name: &str) -> Result<Option<String>, Refusal> {
    match std::env::var_os(name).map(std::ffi::OsString::into_string) {
        Some(Ok(value)) => Ok(Some(value).filter(|value| !value.is_empty())),
        Some(Err(_)) => Err(Refusal::usage(format!("{name} is not UTF-8"))),
        None => Ok(None),
    }
}

/// Writes whom fleet logs in as, and where: `ops@10.0.0.5:22`.
pub(crate) fn login(host: &Host) -> String {
    let Host { user, address, port, .. } = host;
    // An IPv6 address needs brackets for a port to follow.
    if address.contains(':') { format!("{user}@[{address}]:{port}") } else { format!("{user}@{address}:{port}") }
}

/// Writes what is on the way to a host, the first to be contacted first: ` via bastion, bastion2`.
pub(crate) fn via(host: &Host) -> String {
    let mut names: Vec<&str> = host.bastions().map(|bastion| &*bastion.name).collect();
    names.reverse();
    match &host.route {
        Route::Command(command) => format!(" via `{command}`"),
        _ if names.is_empty() => String::new(),
        _ => format!(" via {}", names.join(", ")),
    }
}

/// Returns a limit, where 0 is none.
pub(crate) fn limit(duration: Option<Duration>) -> Option<Duration> {
    duration.filter(|duration| !duration.is_zero())
}

/// Refuses a directory that neither is writable nor can be made.
pub(crate) fn check_writable(dir: &Path) -> Result<(), Refusal> {
    let shown = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let mut nearest = shown;
    while !nearest.exists() {
        nearest = match nearest.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
    }
    if !nearest.is_dir() {
        return Err(Refusal::usage(format!("{} is not a directory", nearest.display())));
    }
    let access = nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK;
    nix::unistd::access(nearest, access).map_err(|error| local("cannot write to", nearest, error.into()))
}

fn local(what: &str, path: &Path, error: std::io::Error) -> Refusal {
    fleet::Error::new(ErrorKind::Usage, format!("{what} {}", path.display())).caused_by(error).into()
}
