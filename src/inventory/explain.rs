//! Where each setting of a host comes from.

use std::fmt;
use std::sync::Arc;

use crate::host::{Host, SecretRef};
use crate::ssh_config::{Ignored, Origin};

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Written beside the host in the selection, or in its name.
    Name,
    /// A flag, or its variable.
    Flag,
    /// The host's own table, and where the setting stands, if that is known.
    Host(String),
    /// A group, and where the setting stands.
    Group(String, String),
    /// The inventory's defaults, and where the setting stands.
    Defaults(String),
    /// A line of ssh_config.
    SshConfig(Origin),
    /// Nobody said anything.
    BuiltIn,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("name"),
            Self::Flag => f.write_str("flag"),
            Self::Host(place) if place.is_empty() => f.write_str("host"),
            Self::Host(place) => write!(f, "host ({place})"),
            Self::Group(name, place) => write!(f, "group {name} ({place})"),
            Self::Defaults(place) => write!(f, "defaults ({place})"),
            Self::SshConfig(origin) => write!(f, "ssh_config ({origin})"),
            Self::BuiltIn => f.write_str("built-in"),
        }
    }
}

/// One setting of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// The setting, as an inventory spells it.
    pub name: &'static str,
    /// The value in effect; of a secret only where it comes from.
    pub value: String,
    /// Who said so.
    pub source: Source,
}

/// A host with the origin of each of its settings: what [`Inventory::explain`](super::Inventory::explain) returns.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The host, without its secrets.
    pub host: Arc<Host>,
    /// Every setting.
    pub settings: Vec<Setting>,
    /// Every group that holds it, nearest first, each with its place, and the expression that puts it there:
    /// `canary: @web!web7 (hosts.toml:3)`.
    pub groups: Vec<String>,
    /// What ssh_config says of the host and fleet does not heed.
    pub ignored: Vec<Ignored>,
    /// What another program's inventory says of the host and fleet does not heed, each with its place:
    /// `ansible_become_method (hosts.ini:3)`.
    pub unheeded: Vec<String>,
    /// What [`Resolved`](super::Resolved) would warn of.
    pub warnings: Vec<String>,
}

/// Writes a reference to a secret, never the secret.
pub(super) fn reference(secret: &SecretRef) -> String {
    match secret {
        SecretRef::Env(name) => format!("env:{name}"),
        SecretRef::File(path) => format!("file:{}", path.display()),
        SecretRef::Cmd(command) => format!("cmd:{command}"),
        SecretRef::Ask => "ask".to_owned(),
        SecretRef::Literal(_) => "literal".to_owned(),
    }
}
