//! One table of the inventory that says how to reach hosts, and the keys that it may have.

use std::collections::BTreeMap;
use std::fmt;

use crate::host::{Settings, Var};

/// The settings and variables of one table, and where in the text they stand.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    pub(super) settings: Settings,
    pub(super) vars: BTreeMap<String, Var>,
    pub(super) offsets: Vec<(&'static str, usize)>,
    /// What another program's inventory says and fleet does not heed, and where.
    pub(super) unheeded: Vec<(String, usize)>,
}

/// A key that two files set differently.
#[derive(Debug)]
pub(super) struct Clash {
    pub(super) key: String,
    pub(super) first: usize,
    pub(super) second: usize,
}

impl Layer {
    /// Returns where in the text a key is set.
    pub(super) fn offset(&self, key: &str) -> Option<usize> {
        self.offsets.iter().find(|(name, _)| *name == key).map(|(_, offset)| *offset)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.offsets.is_empty() && self.unheeded.is_empty()
    }

    /// Notes that a key is set.
    pub(super) fn mark(&mut self, key: &'static str, offset: usize) {
        if self.offset(key).is_none() {
            self.offsets.push((key, offset));
        }
    }

    /// Adds what another file says of the same.
    ///
    /// # Errors
    ///
    /// When both set a key, or a variable, and differ.
    pub(super) fn merge(&mut self, other: &Self) -> Result<(), Clash> {
        let clash = |key: &str, name: &str, first: &Self| Clash {
            key: name.to_owned(),
            first: first.offset(key).or(first.offset("key")).unwrap_or_default(),
            second: other.offset(key).or(other.offset("key")).unwrap_or_default(),
        };
        macro_rules! unite {
            ($($field:ident: $key:literal),*) => {
                // A setting that is not named here does not compile.
                let Settings { $($field),* } = &other.settings;
                $(if let Some(value) = $field {
                    if self.settings.$field.as_ref().is_some_and(|before| before != value) {
                        return Err(clash($key, $key, self));
                    }
                    self.settings.$field = Some(value.clone());
                })*
            };
        }
        unite!(
            user: "user",
            port: "port",
            identity: "identity",
            agent: "agent",
            password: "password",
            answers: "answers",
            passphrase: "passphrase",
            become_by: "become",
            become_user: "become_user",
            become_password: "become_password",
            jump: "jump",
            host_key: "host_key",
            known_hosts: "known_hosts",
            connect_timeout: "connect_timeout",
            retries: "retries"
        );
        for (name, value) in &other.vars {
            if self.vars.get(name).is_some_and(|before| before != value) {
                return Err(clash("vars", &format!("vars.{name}"), self));
            }
            self.vars.insert(name.clone(), value.clone());
        }
        for (key, offset) in &other.offsets {
            if self.offset(key).is_none() {
                self.offsets.push((*key, *offset));
            }
        }
        self.unheeded.extend_from_slice(&other.unheeded);
        Ok(())
    }
}

/// The kind of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Defaults,
    Group,
    Host,
}

/// A table, as its header is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'t> {
    pub(super) kind: Kind,
    pub(super) name: &'t str,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = match self.kind {
            Kind::Defaults => return f.write_str("[defaults]"),
            Kind::Group => "groups",
            Kind::Host => "hosts",
        };
        let is_bare = self.name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        match is_bare {
            true => write!(f, "[{table}.{}]", self.name),
            false => write!(f, "[{table}.{:?}]", self.name),
        }
    }
}

/// Every key that a table of an inventory may have.
///
/// `hosts` and `children` are a group's, `address` and `groups` a host's; the others may stand in any table.
pub const KEYS: [&str; 21] = [
    "user",
    "port",
    "identity",
    "key",
    "agent",
    "password",
    "answers",
    "passphrase",
    "become",
    "become_user",
    "become_password",
    "jump",
    "host_key",
    "known_hosts",
    "connect_timeout",
    "retries",
    "vars",
    "hosts",
    "children",
    "address",
    "groups",
];

impl Kind {
    /// Returns the kind of table that a key is reserved for.
    pub(super) fn of_key(key: &str) -> Option<Self> {
        match key {
            "hosts" | "children" => Some(Self::Group),
            "address" | "groups" => Some(Self::Host),
            _ => None,
        }
    }

    /// Returns the keys that this kind of table may have.
    pub(super) fn keys(self) -> impl Iterator<Item = &'static str> {
        KEYS.into_iter().filter(move |key| Self::of_key(key).is_none_or(|kind| kind == self))
    }
}
