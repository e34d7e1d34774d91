//! From what is selected to hosts that can be reached: precedence, secrets, key files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::address::{Written, split};
use super::explain::{Explanation, Setting, Source, reference};
use super::key_files::KeyFiles;
use super::keywords::Methods;
use super::match_exec::MatchExec;
use super::openssh::{Openssh, Said};
use super::precedence::{Found, Layers, Likeness, Login};
use super::route::Way;
use super::secret::{NoSecrets, SecretUse, Secrets};
use super::select::Target;
use super::{Entry, Inventory};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{
    AgentUse, Answer, Become, BecomeBy, Host, HostKeyPolicy, Identity, Route, Secret, SecretRef, Settings,
};
use crate::known_hosts::default_files;
use crate::ssh_config::{Effective, Given, Ignored, Keyword, SshConfig};

/// What stands above the inventory.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Overrides {
    /// The flags, with `FLEET_*` merged in below them; paths relative to the working directory.
    pub flags: Settings,
    /// Whether commands run on the hosts: only then do they become another user's, and `become_password` is fetched.
    pub with_become: bool,
    /// Whether the commands of `Match exec` in ssh_config are run, each once, while hosts are resolved. Default: no; such a
    /// block is left out, with a warning.
    pub match_exec: bool,
    /// Whether targets are only looked at: of their secrets none is fetched, of the bastions before them all.
    pub without_logins: bool,
    /// The agent of whoever runs this (`$SSH_AUTH_SOCK`), used where no setting names one. Default: none.
    pub agent: Option<PathBuf>,
    /// The home directory where default keys are looked for, instead of the user's.
    pub home: Option<PathBuf>,
    /// OpenSSH's configuration, below the inventory's defaults; none is read unless it is given here.
    pub ssh_config: Option<Arc<SshConfig>>,
}

impl Overrides {
    /// Returns the flags that hold for bastions too: not those that say who logs in and how.
    fn bastion_flags(&self) -> Settings {
        Settings {
            user: None,
            port: None,
            identity: None,
            password: None,
            passphrase: None,
            become_by: None,
            become_user: None,
            become_password: None,
            jump: None,
            ..self.flags.clone()
        }
    }
}

/// The hosts of a run.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Resolved {
    /// One for each target, in their order.
    pub hosts: Vec<Arc<Host>>,
    /// What the user should know, each said once: key files that others can read, what ssh_config has in vain.
    pub warnings: Vec<String>,
}

impl Inventory {
    /// Resolves the targets: merges settings and variables, fetches secrets, checks key files.
    ///
    /// Of a setting the nearest word holds: the target as it was written (`root@web01:2222`), flags, the host, the nearest
    /// group (a group stands nearer than its parents, and a host's own groups stand at distance 1), the defaults, ssh_config
    /// if [it is given](Overrides::ssh_config), and then the built-in value. Variables merge by name in the same order.
    /// ssh_config is asked for the host's name; an `address` acts as its `HostName`.
    ///
    /// Keys are offered before the password. Without an `identity` the existing ones of `~/.ssh/id_ed25519`, `id_ecdsa` and
    /// `id_rsa` are offered, unless a password is set: a server counts every refused key as a failed login (`MaxAuthTries`),
    /// and would end the connection before the password's turn. `identity = []` offers no key. A passphrase is fetched only
    /// where there is a key.
    ///
    /// A bastion is a host like others: of the inventory by name, else of ssh_config, else an address. Flags that say who logs
    /// in and how (user, port, identity, password, jump) are not for it, as with ssh: its own settings hold.
    ///
    /// An agent signs for the keys that it has, and its other keys are offered too, unless a password is set or `identity`
    /// is empty.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Usage`]: two groups at equal distance that set one key differently, a key file that does not exist, a
    /// secret that cannot be fetched, a `jump` that is no chain of bastions or leads in a circle. Only on hosts that are
    /// targets, and the bastions before them.
    pub fn resolve(&self, targets: &[Target], overrides: &Overrides, secrets: &mut dyn Secrets) -> Result<Resolved> {
        let bastion_flags = overrides.bastion_flags();
        let mut resolver = Resolver::new(self, overrides, &bastion_flags, secrets);
        let hosts = targets.iter().map(|target| resolver.host(target)).collect::<Result<_>>()?;
        let mut warnings = self.warnings.clone();
        warnings.append(&mut resolver.keys.warnings);
        Ok(Resolved { hosts, warnings })
    }

    /// Resolves one target and tells where each of its settings comes from; fetches no secrets.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve).
    pub fn explain(&self, target: &Target, overrides: &Overrides) -> Result<Explanation> {
        let mut secrets = NoSecrets;
        let bastion_flags = overrides.bastion_flags();
        let mut resolver = Resolver::new(self, overrides, &bastion_flags, &mut secrets);
        resolver.notes = Some(Notes::default());
        let host = resolver.host(target)?;
        let Notes { settings, ignored } = resolver.notes.unwrap_or_default();
        let (groups, unheeded) = (self.memberships(&target.name), self.unheeded(&target.name));
        Ok(Explanation { host, settings, groups, ignored, unheeded, warnings: resolver.keys.warnings })
    }

    /// Lists what the tables of a host say that only another program understands, the nearest first.
    fn unheeded(&self, name: &str) -> Vec<String> {
        let Some(entry) = self.entry(name) else { return Vec::new() };
        let own = entry.layer.and_then(|id| self.layers.get(id));
        let reached = self.reach(&entry.groups);
        let groups = reached.iter().map(|(id, _)| &self.group(*id).layer);
        let layers = own.into_iter().chain(groups).chain([&self.defaults]);
        let said = layers.flat_map(|layer| &layer.unheeded);
        said.map(|(name, offset)| format!("{name} ({})", self.place(*offset))).collect()
    }
}

pub(super) struct Resolver<'a> {
    pub(super) inventory: &'a Inventory,
    overrides: &'a Overrides,
    /// What holds of the flags for bastions.
    bastion_flags: &'a Settings,
    secrets: &'a mut dyn Secrets,
    match_exec: MatchExec,
    alike: HashMap<(Likeness<'a>, Option<Effective>), (Host, Way)>,
    /// The bastions that were resolved, by the chain that leads to them.
    pub(super) bastions: HashMap<String, Arc<Host>>,
    /// The bastions that are being resolved, each for the one before.
    pub(super) on_the_way: Vec<String>,
    /// What is said about user and port before ssh_config is asked.
    logins: HashMap<Likeness<'a>, Login>,
    keys: KeyFiles,
    /// What is said about the host, where somebody wants to know.
    pub(super) notes: Option<Notes>,
}

#[derive(Debug, Default)]
pub(super) struct Notes {
    settings: Vec<Setting>,
    ignored: Vec<Ignored>,
}

/// Where a host is, before ssh_config is asked.
struct Place<'a> {
    address: String,
    /// The address that its table gives: `HostName` has no say.
    given: Option<(&'a str, Source)>,
    /// The name that ssh_config knows it by.
    known_as: String,
}

impl<'a> Resolver<'a> {
    fn new(
        inventory: &'a Inventory,
        overrides: &'a Overrides,
        bastion_flags: &'a Settings,
        secrets: &'a mut dyn Secrets,
    ) -> Self {
        let home = overrides.home.clone().or_else(dirs::home_dir);
        let keys = KeyFiles { home, ..KeyFiles::default() };
        Self {
            inventory,
            overrides,
            bastion_flags,
            secrets,
            match_exec: MatchExec::default(),
            alike: HashMap::new(),
            bastions: HashMap::new(),
            on_the_way: Vec::new(),
            logins: HashMap::new(),
            keys,
            notes: None,
        }
    }

    fn host(&mut self, target: &Target) -> Result<Arc<Host>> {
        self.one(target, None)
    }

    /// Resolves a target, or a bastion: then `hop` is set, and to the route that leads to it where that is decided.
    pub(super) fn one(&mut self, target: &Target, hop: Option<Option<Route>>) -> Result<Arc<Host>> {
        let is_bastion = hop.is_some();
        let login = Login { user: target.user.as_deref().map(str::to_owned), port: target.port };
        let (place, likeness) = match &target.address {
            Some(address) => {
                let address = address.to_string();
                let name = Login::default();
                let likeness = Likeness { layer: None, groups: &[], target: login, name, is_bastion };
                (Place { known_as: address.clone(), address, given: None }, likeness)
            }
            None => {
                let (place, likeness) = self.listed(target, login)?;
                (place, Likeness { is_bastion, ..likeness })
            }
        };
        let found = self.ssh_config(&target.name, &place, &likeness)?;
        let known_as = place.known_as;
        let (mut address, mut source) = match place.given {
            Some((_, source)) => (place.address, source),
            None => (place.address, Source::Name),
        };
        if let Some(said) = Openssh(found.as_ref()).host_name() {
            (address, source) = said;
        }
        self.note("address", &address, || source);
        let mut key = (likeness, found);
        if let Some(found) = &mut key.1 {
            found.address.clear();
        }
        let (mut host, way) = match self.alike.get(&key) {
            Some(alike) => alike.clone(),
            None => {
                let alike = self.template(&target.name, &key.0, Openssh(key.1.as_ref()))?;
                self.alike.insert(key, alike.clone());
                alike
            }
        };
        host.route = match hop.flatten() {
            Some(route) => route,
            None => self.route(&way, [&target.name, &known_as])?,
        };
        host.name = target.name.to_string();
        host.address = address;
        Ok(Arc::new(host))
    }

    /// Asks ssh_config about a host.
    fn ssh_config(&mut self, name: &str, place: &Place<'_>, likeness: &Likeness<'a>) -> Result<Option<Effective>> {
        let Some(config) = &self.overrides.ssh_config else { return Ok(None) };
        let login = match self.logins.get(likeness) {
            Some(login) => login,
            None => {
                let layers = self.layers(name, likeness);
                let user = layers.user(likeness)?.map(|user| user.value.clone());
                let port = layers.port(likeness)?.map(|port| *port.value);
                self.logins.entry(likeness.clone()).or_insert(Login { user, port })
            }
        };
        let exec = |command: &str| self.match_exec.succeeds(command);
        let given = Given {
            user: login.user.as_deref(),
            port: login.port,
            host_name: place.given.as_ref().map(|(address, _)| *address),
            exec: self.overrides.match_exec.then_some(&exec),
        };
        let found = config.lookup(&place.known_as, &given)?;
        for warning in &found.warnings {
            self.keys.warn(warning.clone());
        }
        Ok(Some(found))
    }

    /// Returns the address of a host of the inventory; a name without one may be written as `[user@]address[:port]`.
    fn listed(&self, target: &Target, login: Login) -> Result<(Place<'a>, Likeness<'a>)> {
        let inventory = self.inventory;
        let name = &*target.name;
        let Some(Entry { address, layer, groups, .. }) = inventory.entry(name) else {
            return Err(usage(format!("no host named \"{name}\"")));
        };
        let (place, written) = match address {
            Some((address, offset)) => {
                let source = Source::Host(inventory.place(*offset));
                let (address, given) = (address.to_string(), Some((&**address, source)));
                (Place { address, given, known_as: name.to_owned() }, Login::default())
            }
            None => {
                let Written { user, host, port } = split(name).or_else(|why| match super::address::is_ip(name) {
                    true => Ok(Written { user: None, host: name, port: None }),
                    false => Err(usage(format!("the name of host \"{name}\" is no address ({why}): give it one"))),
                })?;
                let place = Place { address: host.to_owned(), given: None, known_as: host.to_owned() };
                (place, Login { user: user.map(str::to_owned), port })
            }
        };
        Ok((place, Likeness { layer: *layer, groups, target: login, name: written, is_bastion: false }))
    }

    fn layers<'n>(&self, name: &'n str, likeness: &Likeness<'a>) -> Layers<'n>
    where
        'a: 'n,
    {
        let inventory = self.inventory;
        Layers {
            inventory,
            flags: if likeness.is_bastion { self.bastion_flags } else { &self.overrides.flags },
            host: likeness.layer.and_then(|id| inventory.layers.get(id)),
            groups: inventory.reach(likeness.groups),
            name,
            is_bastion: likeness.is_bastion,
        }
    }

    /// Makes a host with everything but its name and address.
    fn template(&mut self, name: &str, likeness: &Likeness<'a>, ssh: Openssh<'_>) -> Result<(Host, Way)> {
        let inventory = self.inventory;
        let layers = self.layers(name, likeness);
        let mut host = Host::new("", "");
        let found = layers.user(likeness)?;
        self.settle(&layers, "user", found, ssh.text(Keyword::User), &mut host.user, String::clone);
        let found = layers.port(likeness)?;
        self.settle(&layers, "port", found, ssh.port(), &mut host.port, ToString::to_string);
        let way = self.way(&layers, ssh)?;
        let found = layers.get("host_key", |layer| layer.host_key.as_ref())?;
        let show = |policy: &HostKeyPolicy| policy.as_str().to_owned();
        self.settle(&layers, "host_key", found, ssh.host_key(), &mut host.host_key, show);
        self.known_hosts(&layers, ssh, &mut host)?;
        let found = layers.get("connect_timeout", |layer| layer.connect_timeout.as_ref())?;
        let show = |time: &Duration| format!("{time:?}");
        self.settle(&layers, "connect_timeout", found, ssh.connect_timeout(), &mut host.timeouts.connect, show);
        let found = layers.get("retries", |layer| layer.retries.as_ref())?;
        self.settle(&layers, "retries", found, None, &mut host.retries, ToString::to_string);
        self.settle(&layers, "alive_interval", None, ssh.alive_interval(), &mut host.timeouts.alive_interval, show);
        self.settle(
            &layers,
            "alive_count",
            None,
            ssh.number(Keyword::ServerAliveCountMax),
            &mut host.timeouts.alive_count,
            ToString::to_string,
        );
        ssh.connection(&mut host, &mut |name, value, source| self.note(name, value, || source))?;
        self.auth(&layers, ssh, &mut host)?;
        host.vars = layers.vars()?;
        host.groups = layers.groups.iter().map(|(id, _)| inventory.group(*id).name.to_string()).collect();
        if let Some(notes) = &mut self.notes {
            notes.ignored = ssh.ignored();
        }
        Ok((host, way))
    }

    pub(super) fn note(&mut self, name: &'static str, value: &str, source: impl FnOnce() -> Source) {
        if let Some(notes) = &mut self.notes {
            notes.settings.push(Setting { name, value: value.to_owned(), source: source() });
        }
    }

    /// Takes the inventory's word, else ssh_config's, else leaves the built-in value.
    fn settle<T: Clone>(
        &mut self,
        layers: &Layers<'_>,
        name: &'static str,
        found: Option<Found<'_, T>>,
        said: Option<Said<T>>,
        value: &mut T,
        show: impl Fn(&T) -> String,
    ) {
        let source = match (found, said) {
            (Some(found), _) => {
                value.clone_from(found.value);
                layers.source(&found)
            }
            (None, Some((word, source))) => {
                *value = word;
                source
            }
            (None, None) => Source::BuiltIn,
        };
        self.note(name, &show(value), || source);
    }

    fn known_hosts(&mut self, layers: &Layers<'_>, ssh: Openssh<'_>, host: &mut Host) -> Result<()> {
        let source;
        if let Some(found) = layers.get("known_hosts", |layer| layer.known_hosts.as_ref())? {
            host.known_hosts = vec![found.value.clone()];
            source = layers.source(&found);
        } else if let Some((files, said)) = ssh.known_hosts() {
            host.known_hosts = files;
            source = said;
        } else {
            source = Source::BuiltIn;
        }
        if self.notes.is_some() {
            let built_in = if host.known_hosts.is_empty() { default_files() } else { Vec::new() };
            let shown: Vec<_> =
                host.known_hosts.iter().chain(&built_in).map(|path| path.display().to_string()).collect();
            self.note("known_hosts", &shown.join(" "), || source);
        }
        if let Some((alias, source)) = ssh.text(Keyword::HostKeyAlias) {
            self.note("host_key_alias", &alias, || source);
            host.host_key_alias = Some(alias);
        } else {
            self.note("host_key_alias", "none", || Source::BuiltIn);
        }
        Ok(())
    }

    fn auth(&mut self, layers: &Layers<'_>, ssh: Openssh<'_>, host: &mut Host) -> Result<()> {
        let methods = ssh.methods(&mut |name, value, source| self.note(name, value, || source))?;
        let mut password = layers.get("password", |layer| layer.password.as_ref())?;
        if let (Some(found), Some(why)) = (&password, methods.no_password().map(|(why, _)| why)) {
            self.keys.warn(format!("{} is not offered: {why}", layers.said("password", found)));
            password = None;
        }
        let paths = self.identities(layers, ssh, &methods, password.is_some())?;
        host.auth.agent = self.agent(layers, ssh, &methods, password.is_some())?;
        host.auth.identities = paths.into_iter().map(Identity::File).collect();
        if methods.no_keys().is_none() {
            host.auth.certificates = self.certificates(ssh);
        }
        host.auth.password = self.secret(layers, password, &SecretUse::Password)?;
        host.auth.answers = self.answers(layers, &methods)?;
        host.auth.methods = methods.list;
        if !host.auth.identities.is_empty() {
            let passphrase = layers.get("passphrase", |layer| layer.passphrase.as_ref())?;
            host.auth.passphrase = self.secret(layers, passphrase, &SecretUse::Passphrase)?;
        }
        if self.overrides.with_become && !layers.is_bastion {
            self.become_user(layers, host)?;
        }
        Ok(())
    }

    fn become_user(&mut self, layers: &Layers<'_>, host: &mut Host) -> Result<()> {
        let mut by = BecomeBy::Nothing;
        let found = layers.get("become", |layer| layer.become_by.as_ref())?;
        self.settle(layers, "become", found, None, &mut by, |by| by.as_str().to_owned());
        let mut wanted = Become::sudo();
        let found = layers.get("become_user", |layer| layer.become_user.as_ref())?;
        self.settle(layers, "become_user", found, None, &mut wanted.user, String::clone);
        let password = layers.get("become_password", |layer| layer.become_password.as_ref())?;
        if by == BecomeBy::Sudo {
            host.become_user = Some(wanted);
        }
        // Nobody is asked for what nobody needs, but who looks at the settings sees it.
        if by == BecomeBy::Sudo || self.notes.is_some() {
            host.become_password = self.secret(layers, password, &SecretUse::Become)?;
        }
        Ok(())
    }

    /// Decides which agent signs, and whether for other keys than the configured ones: not where a password is given, or
    /// the keys are said to be all, because each refused key counts as a failed login.
    fn agent(
        &mut self,
        layers: &Layers<'_>,
        ssh: Openssh<'_>,
        methods: &Methods,
        has_password: bool,
    ) -> Result<AgentUse> {
        let (socket, source) = if let Some(found) = layers.get("agent", |layer| layer.agent.as_ref())? {
            let socket = Some(found.value.clone()).filter(|path| *path != Path::new("none"));
            (socket, layers.source(&found))
        } else {
            ssh.agent().unwrap_or_else(|| (self.overrides.agent.clone(), Source::BuiltIn))
        };
        let shown = socket.as_deref().map_or_else(|| "none".to_owned(), |path| path.display().to_string());
        self.note("agent", &shown, || source);
        let identity = layers.get("identity", |layer| layer.identity.as_ref())?;
        let is_limited = has_password
            || identity.is_some_and(|identity| identity.value.is_empty())
            || ssh.on(Keyword::IdentitiesOnly).is_some();
        Ok(match socket {
            Some(_) if methods.no_keys().is_some() => AgentUse::Off,
            Some(socket) if is_limited => AgentUse::OnlyConfigured(socket),
            Some(socket) => AgentUse::On(socket),
            None => AgentUse::Off,
        })
    }

    /// Returns the certificates that are there; one that is not is no reason to stop, as with ssh.
    fn certificates(&mut self, ssh: Openssh<'_>) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for (path, source) in ssh.certificates() {
            match std::fs::File::open(&path) {
                Ok(_) => {
                    self.note("certificate", &path.display().to_string(), || source);
                    paths.push(path);
                }
                Err(cause) => {
                    let what = format!("cannot read certificate {} of {source}", path.display());
                    self.keys.warn(Error::new(ErrorKind::LocalFile, what).caused_by(cause).chain());
                }
            }
        }
        paths
    }

    fn identities(
        &mut self,
        layers: &Layers<'_>,
        ssh: Openssh<'_>,
        methods: &Methods,
        has_password: bool,
    ) -> Result<Vec<PathBuf>> {
        let found = layers.get("identity", |layer| layer.identity.as_ref())?;
        let (paths, source) = if let Some((why, source)) = methods.no_keys() {
            if let Some(found) = found.filter(|found| !found.value.is_empty()) {
                self.keys.warn(format!("{} is not offered: {why}", layers.said("identity", &found)));
            }
            (Vec::new(), source)
        } else if let Some(found) = found {
            for path in found.value {
                self.keys.check(path, || layers.origin(&found))?;
            }
            (found.value.clone(), layers.source(&found))
        } else if let Some((keys, source)) = ssh.identity() {
            let mut paths = Vec::new();
            for (path, source) in keys {
                // As with ssh, a key that is not there is no reason to stop: files are shared among machines.
                match self.keys.check(&path, || source.to_string()) {
                    Ok(()) => paths.push(path),
                    Err(error) => self.keys.warn(error.chain()),
                }
            }
            (paths, source)
        } else if has_password {
            (Vec::new(), Source::BuiltIn)
        } else {
            (self.keys.default_paths(), Source::BuiltIn)
        };
        if self.notes.is_some() {
            let shown: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
            let shown = if shown.is_empty() { "none".to_owned() } else { shown.join(" ") };
            self.note("identity", &shown, || source);
        }
        Ok(paths)
    }

    fn secret(
        &mut self,
        layers: &Layers<'_>,
        found: Option<Found<'_, SecretRef>>,
        what: &SecretUse,
    ) -> Result<Option<Secret>> {
        let Some(found) = found.filter(|_| layers.is_bastion || !self.overrides.without_logins) else {
            self.note(what.as_str(), "none", || Source::BuiltIn);
            return Ok(None);
        };
        if self.notes.is_some() {
            self.note(what.as_str(), &reference(found.value), || layers.source(&found));
        }
        self.fetch(layers, &found, what).map(Some)
    }

    fn answers(&mut self, layers: &Layers<'_>, methods: &Methods) -> Result<Vec<Answer>> {
        let mut found = layers.get("answers", |layer| layer.answers.as_ref())?;
        if let (Some(said), Some(why)) = (&found, methods.no_answers().map(|(why, _)| why)) {
            self.keys.warn(format!("{} are not given: {why}", layers.said("answers", said)));
            found = None;
        }
        let Some(found) = found.filter(|_| layers.is_bastion || !self.overrides.without_logins) else {
            self.note("answers", "none", || Source::BuiltIn);
            return Ok(Vec::new());
        };
        if self.notes.is_some() {
            let one = |(question, secret): (&String, &SecretRef)| format!("{question:?} = {}", reference(secret));
            let shown: Vec<_> = found.value.iter().map(one).collect();
            self.note("answers", &shown.join(", "), || layers.source(&found));
        }
        let Found { level, offset, .. } = found;
        let fetched = found.value.iter().map(|(question, value)| {
            let what = SecretUse::Answer(question.clone());
            Ok(Answer::new(question, self.fetch(layers, &Found { value, level, offset }, &what)?))
        });
        fetched.collect()
    }

    fn fetch(&mut self, layers: &Layers<'_>, found: &Found<'_, SecretRef>, what: &SecretUse) -> Result<Secret> {
        self.secrets.fetch(found.value, what, layers.name).map_err(|error| match error.kind() {
            ErrorKind::Usage => {
                let origin = layers.origin(found);
                usage(format!("cannot get the {what} of {origin}")).caused_by(error)
            }
            // A prompt that was interrupted is no fault of the inventory.
            _ => error,
        })
    }
}

fn usage(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, what)
}
