//! From what is selected to hosts that can be reached: precedence, secrets, key files.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::address::{Written, split};
use super::layer::Layer;
use super::secret::{SecretUse, Secrets};
use super::select::Target;
use super::{Entry, Inventory};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{AgentUse, Host, Identity, Secret, SecretRef, Settings, Var};

/// What stands above the inventory.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Overrides {
    /// The flags, with `FLEET_*` merged in below them; paths relative to the working directory.
    pub flags: Settings,
    /// Whether `become_password` is needed: only then is it fetched.
    pub with_become: bool,
    /// The agent of whoever runs this (`$SSH_AUTH_SOCK`), used where no setting names one. Default: none.
    pub agent: Option<PathBuf>,
    /// The home directory where default keys are looked for, instead of the user's.
    pub home: Option<PathBuf>,
}

/// The hosts of a run.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Resolved {
    /// One for each target, in their order.
    pub hosts: Vec<Arc<Host>>,
    /// What the user should know, each said once: key files that others can read.
    pub warnings: Vec<String>,
}

impl Inventory {
    /// Resolves the targets: merges settings and variables, fetches secrets, checks key files.
    ///
    /// Of a setting the nearest word holds: the target as it was written (`root@web01:2222`), flags, the host, the nearest
    /// group (a group stands nearer than its parents, and a host's own groups stand at distance 1), the defaults, and then
    /// the built-in value. Variables merge by name in the same order.
    ///
    /// Keys are offered before the password. Without an `identity` the existing ones of `~/.ssh/id_ed25519`, `id_ecdsa` and
    /// `id_rsa` are offered, unless a password is set: a server counts every refused key as a failed login (`MaxAuthTries`),
    /// and would end the connection before the password's turn. `identity = []` offers no key. A passphrase is fetched only
    /// where there is a key.
    ///
    /// An agent signs for the keys that it has, and its other keys are offered too, unless a password is set or `identity`
    /// is empty.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Usage`]: two groups at equal distance that set one key differently, a key file that does not exist, a
    /// secret that cannot be fetched, a `jump`. Only on hosts that are targets.
    pub fn resolve(&self, targets: &[Target], overrides: &Overrides, secrets: &mut dyn Secrets) -> Result<Resolved> {
        let mut resolver = Resolver {
            inventory: self,
            overrides,
            secrets,
            alike: HashMap::new(),
            keys: KeyFiles { home: overrides.home.clone().or_else(dirs::home_dir), ..KeyFiles::default() },
        };
        let hosts = targets.iter().map(|target| resolver.host(target)).collect::<Result<_>>()?;
        Ok(Resolved { hosts, warnings: resolver.keys.warnings })
    }
}

/// What decides about everything but a host's name and address: hosts with equal ones are resolved once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Likeness<'a> {
    layer: Option<usize>,
    groups: &'a [usize],
    target: Login,
    name: Login,
}

/// A user and a port that are written beside a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Login {
    user: Option<String>,
    port: Option<u16>,
}

struct Resolver<'a> {
    inventory: &'a Inventory,
    overrides: &'a Overrides,
    secrets: &'a mut dyn Secrets,
    alike: HashMap<Likeness<'a>, Host>,
    keys: KeyFiles,
}

impl<'a> Resolver<'a> {
    fn host(&mut self, target: &Target) -> Result<Arc<Host>> {
        let login = Login { user: target.user.as_deref().map(str::to_owned), port: target.port };
        let (address, likeness) = match &target.address {
            Some(address) => {
                (address.to_string(), Likeness { layer: None, groups: &[], target: login, name: Login::default() })
            }
            None => self.listed(target, login)?,
        };
        let mut host = match self.alike.get(&likeness) {
            Some(host) => host.clone(),
            None => {
                let host = self.template(&target.name, &likeness)?;
                self.alike.insert(likeness, host.clone());
                host
            }
        };
        host.name = target.name.to_string();
        host.address = address;
        Ok(Arc::new(host))
    }

    /// Returns the address of a host of the inventory; a name without one may be written as `[user@]address[:port]`.
    fn listed(&self, target: &Target, login: Login) -> Result<(String, Likeness<'a>)> {
        let inventory = self.inventory;
        let name = &*target.name;
        let Some(Entry { address, layer, groups, .. }) = inventory.entry(name) else {
            return Err(usage(format!("no host named \"{name}\"")));
        };
        let (address, written) = match address {
            Some(address) => (&**address, Login::default()),
            None => {
                let Written { user, host, port } = split(name).or_else(|why| match super::address::is_ip(name) {
                    true => Ok(Written { user: None, host: name, port: None }),
                    false => Err(usage(format!("the name of host \"{name}\" is no address ({why}): give it one"))),
                })?;
                (host, Login { user: user.map(str::to_owned), port })
            }
        };
        Ok((address.to_owned(), Likeness { layer: *layer, groups, target: login, name: written }))
    }

    /// Makes a host with everything but its name and address.
    fn template(&mut self, name: &str, likeness: &Likeness<'a>) -> Result<Host> {
        let inventory = self.inventory;
        let layers = Layers {
            inventory,
            flags: &self.overrides.flags,
            host: likeness.layer.and_then(|id| inventory.layers.get(id)),
            groups: inventory.reach(likeness.groups),
            name,
        };
        let mut host = Host::new("", "");
        let Likeness { target, name, .. } = likeness;
        if let Some(user) =
            layers.find("user", |layer| layer.user.as_ref(), target.user.as_ref(), name.user.as_ref())?
        {
            host.user.clone_from(user.value);
        }
        if let Some(port) =
            layers.find("port", |layer| layer.port.as_ref(), target.port.as_ref(), name.port.as_ref())?
        {
            host.port = *port.value;
        }
        layers.refuse_jump()?;
        if let Some(policy) = layers.get("host_key", |layer| layer.host_key.as_ref())? {
            host.host_key = *policy.value;
        }
        if let Some(path) = layers.get("known_hosts", |layer| layer.known_hosts.as_ref())? {
            host.known_hosts = vec![path.value.clone()];
        }
        if let Some(limit) = layers.get("connect_timeout", |layer| layer.connect_timeout.as_ref())? {
            host.timeouts.connect = *limit.value;
        }
        if let Some(retries) = layers.get("retries", |layer| layer.retries.as_ref())? {
            host.retries = *retries.value;
        }
        self.auth(&layers, &mut host)?;
        host.vars = layers.vars()?;
        host.groups = layers.groups.iter().map(|(id, _)| inventory.group(*id).name.to_string()).collect();
        Ok(host)
    }

    fn auth(&mut self, layers: &Layers<'_>, host: &mut Host) -> Result<()> {
        let password = layers.get("password", |layer| layer.password.as_ref())?;
        let identity = layers.get("identity", |layer| layer.identity.as_ref())?;
        let is_limited = identity.as_ref().is_some_and(|identity| identity.value.is_empty());
        let paths = match identity {
            Some(identity) => {
                for path in identity.value {
                    self.keys.check(path, || layers.origin(&identity))?;
                }
                identity.value.clone()
            }
            None if password.is_some() => Vec::new(),
            None => self.keys.default_paths(),
        };
        let agent = layers.get("agent", |layer| layer.agent.as_ref())?.map(|found| found.value);
        let agent = agent.or(self.overrides.agent.as_ref()).filter(|path| *path != Path::new("none"));
        host.auth.agent = match agent.cloned() {
            None => AgentUse::Off,
            Some(socket) if is_limited || password.is_some() => AgentUse::OnlyConfigured(socket),
            Some(socket) => AgentUse::On(socket),
        };
        host.auth.identities = paths.into_iter().map(Identity::File).collect();
        host.auth.password = self.secret(layers, password, SecretUse::Password)?;
        if !host.auth.identities.is_empty() {
            let passphrase = layers.get("passphrase", |layer| layer.passphrase.as_ref())?;
            host.auth.passphrase = self.secret(layers, passphrase, SecretUse::Passphrase)?;
        }
        if self.overrides.with_become {
            let password = layers.get("become_password", |layer| layer.become_password.as_ref())?;
            host.become_password = self.secret(layers, password, SecretUse::Become)?;
        }
        Ok(())
    }

    fn secret(
        &mut self,
        layers: &Layers<'_>,
        found: Option<Found<'_, SecretRef>>,
        what: SecretUse,
    ) -> Result<Option<Secret>> {
        let Some(found) = found else { return Ok(None) };
        match self.secrets.fetch(found.value, what, layers.name) {
            Ok(secret) => Ok(Some(secret)),
            // A prompt that was interrupted is no fault of the inventory.
            Err(error) if error.kind() != ErrorKind::Usage => Err(error),
            Err(error) => {
                let origin = layers.origin(&found);
                Err(usage(format!("cannot get the {} of {origin}", what.as_str())).caused_by(error))
            }
        }
    }
}

/// A setting and where it was found.
#[derive(Clone, Copy, Debug)]
struct Found<'a, T> {
    value: &'a T,
    /// Where it stands in the inventory; none for a flag.
    offset: Option<usize>,
}

/// Everything that has a say about one host, the nearest first.
struct Layers<'a> {
    inventory: &'a Inventory,
    flags: &'a Settings,
    host: Option<&'a Layer>,
    /// The groups and their distances, the nearest first.
    groups: Vec<(usize, usize)>,
    name: &'a str,
}

impl<'a> Layers<'a> {
    fn get<T: PartialEq + 'a>(
        &self,
        key: &'static str,
        read: impl Fn(&'a Settings) -> Option<&'a T>,
    ) -> Result<Option<Found<'a, T>>> {
        self.find(key, read, None, None)
    }

    /// Finds a setting that may also be written beside the target, above everything, or in the host's name, just below its
    /// own table.
    fn find<'f, T: PartialEq + 'a>(
        &self,
        key: &'static str,
        read: impl Fn(&'a Settings) -> Option<&'a T>,
        target: Option<&'f T>,
        name: Option<&'f T>,
    ) -> Result<Option<Found<'f, T>>>
    where
        'a: 'f,
    {
        let found = |layer: &'a Layer| {
            let short = (key == "identity").then(|| layer.offset("key")).flatten();
            read(&layer.settings).map(|value| Found { value, offset: layer.offset(key).or(short) })
        };
        if let Some(value) = target.or_else(|| read(self.flags)) {
            return Ok(Some(Found { value, offset: None }));
        }
        if let Some(own) = self.host.and_then(found) {
            return Ok(Some(own));
        }
        if let Some(value) = name {
            return Ok(Some(Found { value, offset: None }));
        }
        if let Some(id) = self.nearest_group(key, |layer| read(&layer.settings))? {
            return Ok(found(&self.inventory.group(id).layer));
        }
        Ok(found(&self.inventory.defaults))
    }

    /// Returns the nearest group that has something.
    ///
    /// At equal distance a group wins over those that hold it; others have to agree.
    fn nearest_group<T: PartialEq + 'a>(
        &self,
        key: &str,
        read: impl Fn(&'a Layer) -> Option<&'a T>,
    ) -> Result<Option<usize>> {
        let inventory = self.inventory;
        let value = |id: usize| read(&inventory.group(id).layer);
        let mut setters = self.groups.iter().filter(|(id, _)| value(*id).is_some());
        let Some((first, nearest)) = setters.next() else { return Ok(None) };
        let mut candidates: Vec<usize> = vec![*first];
        candidates.extend(setters.take_while(|(_, distance)| distance == nearest).map(|(id, _)| *id));
        let lowest: Vec<usize> = candidates
            .iter()
            .copied()
            .filter(|id| !candidates.iter().any(|other| inventory.is_ancestor(*id, *other)))
            .collect();
        let Some((first, others)) = lowest.split_first() else { unreachable!("groups form no cycle") };
        match others.iter().find(|other| value(**other) != value(*first)) {
            None => Ok(Some(*first)),
            Some(other) => Err(self.conflict(key, *first, *other)),
        }
    }

    fn conflict(&self, key: &str, first: usize, second: usize) -> Error {
        let (first, second) = (self.inventory.group(first), self.inventory.group(second));
        let place = self.inventory.place(second.offset);
        usage(format!(
            "{place}: groups \"{}\" and \"{}\" set \"{key}\" differently for host \"{}\": set it on the host",
            first.name, second.name, self.name
        ))
    }

    fn vars(&self) -> Result<BTreeMap<String, Var>> {
        let mut vars = self.inventory.defaults.vars.clone();
        let own = self.host.map(|host| &host.vars);
        let names = self.groups.iter().flat_map(|(id, _)| self.inventory.group(*id).layer.vars.keys());
        let names: BTreeSet<&String> = names.filter(|name| own.is_none_or(|own| !own.contains_key(*name))).collect();
        for name in names {
            let nearest = self.nearest_group(&format!("vars.{name}"), |layer| layer.vars.get(name))?;
            if let Some(value) = nearest.and_then(|id| self.inventory.group(id).layer.vars.get(name)) {
                vars.insert(name.clone(), value.clone());
            }
        }
        vars.extend(own.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
        Ok(vars)
    }

    fn refuse_jump(&self) -> Result<()> {
        match self.get("jump", |layer| layer.jump.as_ref())? {
            Some(jump) if jump.value != "none" => {
                let origin = self.origin(&jump);
                Err(usage(format!("jump is not supported by this version yet: {origin}")))
            }
            _ => Ok(()),
        }
    }

    /// Says where a setting comes from: `host "web01" (hosts.toml:12)`.
    fn origin<T>(&self, found: &Found<'_, T>) -> String {
        match found.offset {
            Some(offset) => format!("host \"{}\" ({})", self.name, self.inventory.place(offset)),
            None => format!("host \"{}\"", self.name),
        }
    }
}

/// The key files of a run, each looked at once.
#[derive(Debug, Default)]
struct KeyFiles {
    home: Option<PathBuf>,
    checked: HashSet<PathBuf>,
    defaults: Option<Vec<PathBuf>>,
    warnings: Vec<String>,
}

/// The keys that are offered when none is configured, in this order.
const DEFAULT_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

impl KeyFiles {
    fn check(&mut self, path: &Path, origin: impl Fn() -> String) -> Result<()> {
        if self.checked.contains(path) {
            return Ok(());
        }
        let shown = path.display();
        let meta = std::fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => usage(format!(
                "key {shown} of {} does not exist: correct the path or run ssh-keygen -f {shown}",
                origin()
            )),
            _ => usage(format!("cannot read key {shown} of {}", origin())).caused_by(error),
        })?;
        if meta.is_dir() {
            return Err(usage(format!("key {shown} of {} is a directory: name the key file in it", origin())));
        }
        let mode = meta.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            self.warnings.push(format!("key {shown} can be read by others (mode {mode:04o}): run chmod 600 {shown}"));
        }
        self.checked.insert(path.to_owned());
        Ok(())
    }

    fn default_paths(&mut self) -> Vec<PathBuf> {
        if let Some(paths) = &self.defaults {
            return paths.clone();
        }
        let directory = self.home.as_ref().map(|home| home.join(".ssh"));
        let paths = directory.iter().flat_map(|directory| DEFAULT_KEYS.map(|name| directory.join(name)));
        let paths: Vec<PathBuf> = paths.filter(|path| path.is_file()).collect();
        let existing = paths.into_iter().filter(|path| self.check(path, String::new).is_ok()).collect::<Vec<_>>();
        self.defaults = Some(existing.clone());
        existing
    }
}

fn usage(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, what)
}
