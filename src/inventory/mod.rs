//! Inventories: which hosts there are, in which groups, and how to reach them (DESIGN section 6).
//!
//! A run reads forward: [`Inventory::load`] → [`Inventory::select`] → [`Inventory::resolve`]. Only what is selected is
//! resolved: a broken reference on another host is no error, and the secrets of other hosts are never fetched.
//!
//! # Examples
//!
//! ```
//! use fleet::inventory::{Inventory, LocalSecrets, Overrides, Selector};
//!
//! let inventory = Inventory::parse(
//!     r#"
//!     [defaults]
//!     user = "ops"
//!
//!     [groups.web]
//!     hosts = ["web[01-03]"]
//!
//!     [hosts.web02]
//!     address = "10.0.0.2"
//!     user = "root"
//!     "#,
//!     "hosts.toml".as_ref(),
//! )?;
//! let mut selector = Selector::default();
//! selector.hosts.push("@web!web03".into());
//! let targets = inventory.select(&selector)?;
//! let resolved = inventory.resolve(&targets, &Overrides::default(), &mut LocalSecrets::new())?;
//! let logins: Vec<String> = resolved.hosts.iter().map(|host| format!("{}@{}", host.user, host.address)).collect();
//! assert_eq!(logins, ["ops@web01", "root@10.0.0.2"]);
//! # Ok::<(), fleet::Error>(())
//! ```

mod address;
mod build;
mod explain;
mod expr;
mod file;
mod forms;
mod group;
mod key_files;
mod keywords;
mod layer;
mod list;
mod match_exec;
mod members;
mod openssh;
mod part;
mod precedence;
mod resolve;
mod route;
mod secret;
mod select;
mod set;
mod spelling;
mod term;
mod value;
mod vars;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::host::HostSpec;
use build::Files;
use group::Group;
use layer::Layer;
use members::Rule;

pub use explain::{Explanation, Setting, Source};
pub use layer::KEYS;
pub use part::{Pick, Slice};
pub use resolve::{Overrides, Resolved};
pub use secret::{LocalSecrets, NoSecrets, SecretUse, Secrets};
pub use select::{Names, NoNames, Selector, Target};

/// The hosts and groups of one file, in file order; immutable once read.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    files: Files,
    ssh_configs: Vec<PathBuf>,
    defaults: Layer,
    groups: Vec<Group>,
    group_ids: HashMap<Arc<str>, usize>,
    layers: Vec<Layer>,
    hosts: Vec<Entry>,
    host_ids: HashMap<Arc<str>, usize>,
    /// The expressions that put hosts into groups, in file order.
    rules: Vec<Rule>,
    /// What whoever uses it should know, such as what stands beside it and is not read.
    warnings: Vec<String>,
}

/// One host. Small: an inventory may have a hundred thousand that say nothing of their own.
#[derive(Clone, Debug)]
struct Entry {
    name: Arc<str>,
    /// With the place where it is said.
    address: Option<(Box<str>, usize)>,
    /// Its own table's settings, an index into the layers; shared where a table names many hosts.
    layer: Option<usize>,
    /// The groups that name it directly, in file order.
    groups: Vec<usize>,
}

/// Where an inventory is looked for when none is named: the only place that knows the environment's part in it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Lookup {
    /// The value of `$FLEET_INVENTORY`.
    pub variable: Option<OsString>,
    /// The directory where `hosts.toml` may lie.
    pub directory: PathBuf,
    /// The user's configuration directory, where `fleet/hosts.toml` may lie.
    pub config: Option<PathBuf>,
    /// When inventories that are programs must have answered. Default: each has 60 s.
    pub deadline: Option<Instant>,
}

impl Lookup {
    /// Reads `$FLEET_INVENTORY` and asks for the configuration directory; the directory is the working one.
    pub fn from_env() -> Self {
        Self { variable: std::env::var_os("FLEET_INVENTORY"), config: dirs::config_dir(), ..Self::default() }
    }
}

impl Inventory {
    /// Makes an inventory without hosts; with it, a selection may hold any address.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Reads an inventory from a file: fleet's TOML, or one of the forms that others have: Ansible's INI, JSON and programs,
    /// ssh_config, plain lists. Name and content tell which it is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Usage`] when the file cannot be read, and as [`parse`](Self::parse).
    pub fn load(path: &Path) -> Result<Self> {
        Self::load_all(&[path])
    }

    /// Reads an inventory from text; the path is where its relative paths start, and what errors name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Usage`], one line: the file, the line, what is wrong, and the nearest valid spelling.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        forms::parse(text, path)
    }

    /// Finds the inventory that is used when none is named: `$FLEET_INVENTORY`, `./hosts.toml`, then `fleet/hosts.toml` in
    /// the user's configuration directory.
    ///
    /// A path from the variable is returned whether or not there is such a file: loading it then says that it is missing.
    pub fn find(lookup: &Lookup) -> Option<PathBuf> {
        if let Some(path) = lookup.variable.as_ref().filter(|path| !path.is_empty()) {
            return Some(PathBuf::from(path));
        }
        let local = lookup.directory.join("hosts.toml");
        let user = lookup.config.as_ref().map(|config| config.join("fleet").join("hosts.toml"));
        [Some(local), user].into_iter().flatten().find(|path| path.is_file())
    }

    /// Loads the inventory named, else the one [found](Self::find), else an empty one.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn open(named: Option<&Path>, lookup: &Lookup) -> Result<Self> {
        Self::open_all(named.as_slice(), lookup)
    }

    /// Loads the inventories named as one, else the one [found](Self::find), else an empty one.
    ///
    /// # Errors
    ///
    /// As [`load_all`](Self::load_all).
    pub fn open_all<P: AsRef<Path>>(named: &[P], lookup: &Lookup) -> Result<Self> {
        match Self::find(lookup) {
            _ if !named.is_empty() => Self::load_before(named, lookup.deadline),
            Some(path) => Self::load_before(&[path], lookup.deadline),
            None => Ok(Self::empty()),
        }
    }

    /// Returns the file it was read from, the first of several; none for an [empty](Self::empty) one.
    pub fn source(&self) -> Option<&Path> {
        self.files.first()
    }

    /// Returns the files in the form of ssh_config: what they say of the hosts counts where
    /// [`Overrides::ssh_config`] has them.
    pub fn ssh_configs(&self) -> &[PathBuf] {
        &self.ssh_configs
    }

    /// Returns the names of all hosts, in file order.
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = &str> {
        self.hosts.iter().map(|host| &*host.name)
    }

    /// Returns a host with its own settings only, before groups and defaults are merged in.
    pub fn host(&self, name: &str) -> Option<HostSpec> {
        let entry = self.entry(name)?;
        let mut spec = HostSpec::new(name);
        spec.address = entry.address.as_ref().map(|(address, _)| address.to_string());
        if let Some(layer) = entry.layer.and_then(|id| self.layers.get(id)) {
            spec.settings = layer.settings.clone();
            spec.vars = layer.vars.clone();
        }
        spec.groups = entry.groups.iter().map(|id| self.group(*id).name.to_string()).collect();
        Some(spec)
    }

    /// Returns the names of all groups, in file order.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = &str> {
        self.groups.iter().map(|group| &*group.name)
    }

    /// Returns the hosts of a group and of its children, in file order; none if there is no such group.
    pub fn members(&self, group: &str) -> Option<Vec<&str>> {
        let id = *self.group_ids.get(group)?;
        let members = self.group_members(id);
        Some(members.iter().filter_map(|id| self.hosts.get(id)).map(|host| &*host.name).collect())
    }

    /// Returns the groups that a group names as its children, in the order given; none if there is no such group.
    pub fn children(&self, group: &str) -> Option<Vec<&str>> {
        let id = *self.group_ids.get(group)?;
        Some(self.group(id).children.iter().map(|id| &*self.group(*id).name).collect())
    }

    /// Returns every group that holds a host, directly or through children, nearest first; none if there is no such host.
    pub fn groups_of(&self, host: &str) -> Option<Vec<&str>> {
        let entry = self.entry(host)?;
        Some(self.reach(&entry.groups).into_iter().map(|(id, _)| &*self.group(id).name).collect())
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        self.hosts.get(*self.host_ids.get(name)?)
    }

    fn group(&self, id: usize) -> &Group {
        self.groups.get(id).unwrap_or_else(|| unreachable!("group ids are made with their groups"))
    }

    /// Returns `hosts.toml:12` for messages.
    fn place(&self, offset: usize) -> String {
        self.files.place(offset)
    }

    /// Makes an error that names a place.
    fn wrong(&self, offset: usize, what: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::Usage, format!("{}: {what}", self.place(offset)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inventory_is_looked_for_in_three_places() {
        let dir = tempfile::tempdir().unwrap();
        let mut lookup = Lookup { directory: dir.path().join("work"), ..Lookup::default() };
        assert_eq!(Inventory::find(&lookup), None);
        assert!(Inventory::open(None, &lookup).unwrap().source().is_none());

        let user = dir.path().join("config/fleet/hosts.toml");
        std::fs::create_dir_all(user.parent().unwrap()).unwrap();
        std::fs::write(&user, "[hosts.a]").unwrap();
        lookup.config = Some(dir.path().join("config"));
        assert_eq!(Inventory::find(&lookup), Some(user.clone()));
        assert_eq!(Inventory::open(None, &lookup).unwrap().source(), Some(&*user));

        let local = dir.path().join("work/hosts.toml");
        std::fs::create_dir_all(&lookup.directory).unwrap();
        std::fs::write(&local, "").unwrap();
        assert_eq!(Inventory::find(&lookup), Some(local));

        lookup.variable = Some("/nowhere/hosts.toml".into());
        let error = Inventory::open(None, &lookup).unwrap_err();
        assert_eq!(error.to_string(), "cannot read inventory /nowhere/hosts.toml");
    }

    #[test]
    fn bytes_that_are_no_text_have_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts.toml");
        std::fs::write(&path, b"[defaults]\nuser = \"\xff\"\n").unwrap();
        let error = Inventory::load(&path).unwrap_err();
        assert_eq!(error.to_string(), format!("{}:2: not UTF-8", path.display()));
    }

    #[test]
    fn groups_and_members_are_listed() {
        let inventory = Inventory::parse(
            r#"
            [groups.prod]
            children = ["web", "db"]
            [groups.web]
            hosts = ["web[1-2]"]
            [groups.db]
            [hosts.db1]
            groups = ["db"]
            port = 2222
            "#,
            Path::new("hosts.toml"),
        )
        .unwrap();
        assert_eq!(inventory.groups().collect::<Vec<_>>(), ["prod", "web", "db"]);
        assert_eq!(inventory.hosts().collect::<Vec<_>>(), ["web1", "web2", "db1"]);
        assert_eq!(inventory.members("prod").unwrap(), ["web1", "web2", "db1"]);
        assert_eq!(inventory.members("db").unwrap(), ["db1"]);
        assert_eq!(inventory.members("none"), None);
        assert_eq!(inventory.groups_of("db1").unwrap(), ["db", "prod"]);
        let spec = inventory.host("db1").unwrap();
        assert_eq!((spec.settings.port, spec.groups), (Some(2222), vec!["db".to_owned()]));
    }
}
