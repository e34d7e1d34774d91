//! Who has a say about a host, and whose word holds.

use std::collections::{BTreeMap, BTreeSet};

use super::Inventory;
use super::explain::Source;
use super::layer::Layer;
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Settings, Var};

/// What decides about everything but a host's name and address: hosts with equal ones are resolved once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Likeness<'a> {
    pub(super) layer: Option<usize>,
    pub(super) groups: &'a [usize],
    pub(super) target: Login,
    pub(super) name: Login,
    /// Flags about logins are not for bastions.
    pub(super) is_bastion: bool,
}

/// A user and a port that are written beside a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Login {
    pub(super) user: Option<String>,
    pub(super) port: Option<u16>,
}

/// A setting and where it was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a, T> {
    pub(super) value: &'a T,
    pub(super) level: Level,
    /// Where it stands in the inventory; none for a flag.
    pub(super) offset: Option<usize>,
}

/// Who has a say about a host, by place in the inventory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Level {
    Name,
    Flag,
    Host,
    Group(usize),
    Defaults,
}

/// Everything that has a say about one host, the nearest first.
pub(super) struct Layers<'a> {
    pub(super) inventory: &'a Inventory,
    pub(super) flags: &'a Settings,
    pub(super) host: Option<&'a Layer>,
    /// The groups and their distances, the nearest first.
    pub(super) groups: Vec<(usize, usize)>,
    pub(super) name: &'a str,
    pub(super) is_bastion: bool,
}

impl<'a> Layers<'a> {
    pub(super) fn get<T: PartialEq + 'a>(
        &self,
        key: &'static str,
        read: impl Fn(&'a Settings) -> Option<&'a T>,
    ) -> Result<Option<Found<'a, T>>> {
        self.find(key, read, None, None)
    }

    /// Finds a setting that may also be written beside the target, above everything, or in the host's name, just below its
    /// own table.
    pub(super) fn find<'f, T: PartialEq + 'a>(
        &self,
        key: &'static str,
        read: impl Fn(&'a Settings) -> Option<&'a T>,
        target: Option<&'f T>,
        name: Option<&'f T>,
    ) -> Result<Option<Found<'f, T>>>
    where
        'a: 'f,
    {
        let found = |layer: &'a Layer, level| {
            let short = (key == "identity").then(|| layer.offset("key")).flatten();
            read(&layer.settings).map(|value| Found { value, level, offset: layer.offset(key).or(short) })
        };
        if let Some(value) = target {
            return Ok(Some(Found { value, level: Level::Name, offset: None }));
        }
        if let Some(value) = read(self.flags) {
            return Ok(Some(Found { value, level: Level::Flag, offset: None }));
        }
        if let Some(own) = self.host.and_then(|layer| found(layer, Level::Host)) {
            return Ok(Some(own));
        }
        if let Some(value) = name {
            return Ok(Some(Found { value, level: Level::Name, offset: None }));
        }
        if let Some(id) = self.nearest_group(key, |layer| read(&layer.settings))? {
            return Ok(found(&self.inventory.group(id).layer, Level::Group(id)));
        }
        Ok(found(&self.inventory.defaults, Level::Defaults))
    }

    pub(super) fn user<'f>(&self, likeness: &'f Likeness<'_>) -> Result<Option<Found<'f, String>>>
    where
        'a: 'f,
    {
        let Likeness { target, name, .. } = likeness;
        self.find("user", |layer| layer.user.as_ref(), target.user.as_ref(), name.user.as_ref())
    }

    pub(super) fn port<'f>(&self, likeness: &'f Likeness<'_>) -> Result<Option<Found<'f, u16>>>
    where
        'a: 'f,
    {
        let Likeness { target, name, .. } = likeness;
        self.find("port", |layer| layer.port.as_ref(), target.port.as_ref(), name.port.as_ref())
    }

    pub(super) fn source<T>(&self, found: &Found<'_, T>) -> Source {
        let place = found.offset.map_or_else(String::new, |offset| self.inventory.place(offset));
        match found.level {
            Level::Name => Source::Name,
            Level::Flag => Source::Flag,
            Level::Host => Source::Host(place),
            Level::Group(id) => Source::Group(self.inventory.group(id).name.to_string(), place),
            Level::Defaults => Source::Defaults(place),
        }
    }

    /// Names a setting for a warning: `password, host (hosts.toml:12),`.
    pub(super) fn said<T>(&self, key: &str, found: &Found<'_, T>) -> String {
        format!("{key} of {}", self.source(found))
    }

    /// Returns the nearest group that has something.
    ///
    /// At equal distance a group wins over those that hold it; others have to agree.
    pub(super) fn nearest_group<T: PartialEq + 'a>(
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

    pub(super) fn conflict(&self, key: &str, first: usize, second: usize) -> Error {
        let (first, second) = (self.inventory.group(first), self.inventory.group(second));
        let place = self.inventory.place(second.offset);
        usage(format!(
            "{place}: groups \"{}\" and \"{}\" set \"{key}\" differently for host \"{}\": set it on the host",
            first.name, second.name, self.name
        ))
    }

    pub(super) fn vars(&self) -> Result<BTreeMap<String, Var>> {
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

    /// Says where a setting comes from: `host "web01" (hosts.toml:12)`.
    pub(super) fn origin<T>(&self, found: &Found<'_, T>) -> String {
        match found.offset {
            Some(offset) => format!("host \"{}\" ({})", self.name, self.inventory.place(offset)),
            None => format!("host \"{}\"", self.name),
        }
    }
}

fn usage(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, what)
}
