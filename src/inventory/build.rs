//! Building one inventory from any number of files.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::address::{Written, check_group, check_host, is_ip, split};
use super::group::Group;
use super::layer::{Clash, Layer};
use super::members::WrittenRule;
use super::{Entry, Inventory};
use crate::error::{Error, ErrorKind, Result};

/// The files of an inventory. Places in all of them are counted through, so that one number says which file and line.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    list: Vec<File>,
    /// The place after the last character.
    end: usize,
}

#[derive(Clone, Debug)]
struct File {
    path: PathBuf,
    /// The place of its first character.
    base: usize,
    lines: Lines,
}

/// Where each line of a text starts; no lines where a text has none that a person would look for.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn new(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(offset, _)| offset + 1)).collect())
    }

    /// Returns the line of a place, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }

    pub(super) fn start(&self, line: usize) -> usize {
        self.0.get(line.saturating_sub(1)).copied().unwrap_or_default()
    }
}

impl Files {
    pub(super) fn first(&self) -> Option<&Path> {
        self.list.first().map(|file| &*file.path)
    }

    /// Adds a file and returns the place of its first character.
    pub(super) fn add(&mut self, path: &Path, lines: Lines, len_bytes: usize) -> usize {
        let base = self.end;
        self.end += len_bytes + 1;
        self.list.push(File { path: path.to_owned(), base, lines });
        base
    }

    /// Returns `hosts.toml:12`, or only the path.
    pub(super) fn place(&self, offset: usize) -> String {
        let at = self.list.partition_point(|file| file.base <= offset);
        match at.checked_sub(1).and_then(|at| self.list.get(at)) {
            Some(File { path, lines: Lines(lines), .. }) if lines.is_empty() => path.display().to_string(),
            Some(File { path, base, lines }) => format!("{}:{}", path.display(), lines.line(offset - base)),
            None => "inventory".to_owned(),
        }
    }
}

/// An inventory that is being built.
#[derive(Debug, Default)]
pub(super) struct Builder {
    pub(super) inventory: Inventory,
    /// Where each host is defined first, by its place.
    defined: Vec<Option<usize>>,
    /// The settings of two tables as one, by their places.
    merged: HashMap<(usize, usize), usize>,
    /// Which hosts groups have by expressions, to be found when all are known.
    pub(super) written_rules: Vec<WrittenRule>,
}

impl Builder {
    /// Makes room for more hosts and their tables.
    pub(super) fn reserve(&mut self, hosts: usize) {
        self.inventory.hosts.reserve(hosts);
        self.inventory.host_ids.reserve(hosts);
        self.inventory.layers.reserve(hosts);
        self.defined.reserve(hosts);
    }

    /// Returns the group of a name, made if it is new.
    ///
    /// # Errors
    ///
    /// Gives what is wrong with the name, as a fragment.
    pub(super) fn group(&mut self, name: &str, offset: usize) -> Result<usize, String> {
        if let Some(id) = self.inventory.group_ids.get(name) {
            return Ok(*id);
        }
        check_group(name).map_err(|why| format!("{name:?} cannot name a group: {why}"))?;
        let id = self.inventory.groups.len();
        let name: Arc<str> = name.into();
        self.inventory.group_ids.insert(name.clone(), id);
        self.inventory.groups.push(Group {
            name,
            offset,
            layer: Layer::default(),
            hosts: Vec::new(),
            children: Vec::new(),
            parents: Vec::new(),
        });
        Ok(id)
    }

    /// Returns the host of a name, made if it is new.
    ///
    /// # Errors
    ///
    /// Gives what is wrong with the name, as a fragment.
    pub(super) fn host(&mut self, name: &str) -> Result<usize, String> {
        if let Some(id) = self.inventory.host_ids.get(name) {
            return Ok(*id);
        }
        check_host(name).map_err(|why| format!("{name:?} cannot name a host: {why}"))?;
        let id = self.inventory.hosts.len();
        let name: Arc<str> = name.into();
        self.inventory.host_ids.insert(name.clone(), id);
        self.inventory.hosts.push(Entry { name, address: None, layer: None, groups: Vec::new() });
        Ok(id)
    }

    /// Puts a host into a group.
    pub(super) fn join(&mut self, host: usize, group: usize) {
        let Some(entry) = self.inventory.hosts.get_mut(host) else { return };
        if !entry.groups.contains(&group) {
            entry.groups.push(group);
            self.group_mut(group).hosts.push(host);
        }
    }

    /// Puts a group below another one.
    pub(super) fn adopt(&mut self, parent: usize, child: usize) {
        if !self.group_mut(parent).children.contains(&child) {
            self.group_mut(parent).children.push(child);
            self.group_mut(child).parents.push(parent);
        }
    }

    /// Keeps the settings of a table that may be of many hosts; none if it says nothing.
    pub(super) fn layer(&mut self, layer: Layer) -> Option<usize> {
        (!layer.is_empty()).then(|| {
            self.inventory.layers.push(layer);
            self.inventory.layers.len() - 1
        })
    }

    /// Sets what a table says of a host, beside what other files say.
    ///
    /// # Errors
    ///
    /// When they contradict each other; it names both places.
    pub(super) fn define(
        &mut self,
        id: usize,
        layer: Option<usize>,
        address: Option<(&str, usize)>,
        offset: usize,
    ) -> Result<()> {
        if self.defined.len() <= id {
            self.defined.resize(id + 1, None);
        }
        let first = self.defined.get_mut(id).and_then(|slot| slot.replace(offset));
        let Some(entry) = self.inventory.hosts.get_mut(id) else { return Ok(()) };
        if let Some((address, place)) = address {
            match (&entry.address, first) {
                (Some((before, _)), Some(first)) if **before != *address => {
                    let place = self.inventory.files.place(first);
                    let what = format!("host \"{}\" has another address in {place}: keep one", entry.name);
                    return Err(self.inventory.wrong(offset, what));
                }
                _ => entry.address = Some((address.into(), place)),
            }
        }
        let (old, new) = match (entry.layer, layer) {
            (Some(old), Some(new)) if old != new => (old, new),
            (old, new) => {
                entry.layer = old.or(new);
                return Ok(());
            }
        };
        let name = entry.name.clone();
        let both = match self.merged.get(&(old, new)) {
            Some(both) => *both,
            None => {
                let layers = &self.inventory.layers;
                let (Some(mut both), Some(other)) = (layers.get(old).cloned(), layers.get(new)) else { return Ok(()) };
                both.merge(other).map_err(|clash| self.clash(&clash, format_args!("host \"{name}\"")))?;
                self.inventory.layers.push(both);
                let both = self.inventory.layers.len() - 1;
                self.merged.insert((old, new), both);
                both
            }
        };
        if let Some(entry) = self.inventory.hosts.get_mut(id) {
            entry.layer = Some(both);
        }
        Ok(())
    }

    /// Sets what a table says of a group, beside what other files say.
    ///
    /// # Errors
    ///
    /// As [`define`](Self::define).
    pub(super) fn define_group(&mut self, id: usize, layer: &Layer) -> Result<()> {
        let group = self.group_mut(id);
        let name = group.name.clone();
        group.layer.merge(layer).map_err(|clash| self.clash(&clash, format_args!("group \"{name}\"")))
    }

    /// Sets the defaults, beside what other files say.
    ///
    /// # Errors
    ///
    /// As [`define`](Self::define).
    pub(super) fn define_defaults(&mut self, layer: &Layer) -> Result<()> {
        let merged = self.inventory.defaults.merge(layer);
        merged.map_err(|clash| self.clash(&clash, format_args!("the defaults")))
    }

    fn clash(&self, clash: &Clash, of: fmt::Arguments<'_>) -> Error {
        let Clash { key, first, second } = clash;
        let first = self.inventory.files.place(*first);
        self.inventory.wrong(*second, format!("\"{key}\" of {of} is set differently in {first}: keep one"))
    }

    pub(super) fn group_mut(&mut self, id: usize) -> &mut Group {
        self.inventory.groups.get_mut(id).unwrap_or_else(|| unreachable!("group ids are made with their groups"))
    }

    pub(super) fn finish(mut self) -> Result<Inventory> {
        if let Some(cycle) = self.inventory.cycle() {
            let offset = cycle.first().map_or(0, |id| self.inventory.group(*id).offset);
            return Err(self.inventory.wrong(offset, self.inventory.describe_cycle(&cycle)));
        }
        self.apply_rules()?;
        for entry in &mut self.inventory.hosts {
            entry.groups.sort_unstable();
        }
        Ok(self.inventory)
    }
}

/// Returns an address without the brackets of an IPv6 one, or what is wrong with it.
pub(super) fn check_address(text: &str) -> Result<&str, &'static str> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if is_ip(bare) {
        return Ok(bare);
    }
    match split(text) {
        Ok(Written { user: Some(_), .. }) => Err("holds a user name: write it as \"user\""),
        Ok(Written { port: Some(_), .. }) => Err("holds a port: write it as \"port\""),
        Ok(Written { host, .. }) if check_host(host).is_ok() && !host.contains(':') => Ok(host),
        _ => Err("must be a host name or an IP address"),
    }
}

/// Makes an error of the inventory.
pub(super) fn usage(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, what)
}
