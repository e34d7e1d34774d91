//! Building an inventory from its TOML text.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use super::address::{Written, check_group, check_host, is_ip, split};
use super::group::Group;
use super::layer::{Kind, Layer, Place};
use super::spelling::did_you_mean;
use super::value::{OwnKeys, Setting, Source};
use super::{Entry, Inventory};
use crate::error::Result;
use crate::hostset::HostSet;

const TABLES: [&str; 3] = ["defaults", "groups", "hosts"];

pub(super) fn read(text: &str, path: &Path) -> Result<Inventory> {
    let source = Source::new(text, path);
    let document = DeTable::parse(text).map_err(|error| source.syntax(&error))?;
    let tables = Tables::collect(&source, document.get_ref())?;
    let inventory = Inventory { source: Some(path.to_owned()), ..Inventory::default() };
    let mut builder = Builder { source: &source, inventory, tables: Vec::new() };
    builder.reserve(tables.list.len());
    builder.declare_groups(&tables)?;
    for table in &tables.list {
        builder.table(table)?;
    }
    let mut inventory = builder.finish()?;
    inventory.lines = source.into_lines();
    Ok(inventory)
}

/// One table of the file.
#[derive(Debug)]
struct Table<'t> {
    place: Place<'t>,
    span: Range<usize>,
    table: &'t DeTable<'t>,
}

/// Every table, in file order.
#[derive(Debug)]
struct Tables<'t> {
    list: Vec<Table<'t>>,
}

impl<'t> Tables<'t> {
    fn collect(source: &Source<'t>, document: &'t DeTable<'t>) -> Result<Self> {
        let mut list = Vec::new();
        for (name, value) in document {
            let kind = match name.get_ref().as_ref() {
                "defaults" => {
                    let table = source.table("[defaults]", value)?;
                    list.push(Table { place: Place { kind: Kind::Defaults, name: "" }, span: name.span(), table });
                    continue;
                }
                "groups" => Kind::Group,
                "hosts" => Kind::Host,
                other => {
                    let what = if value.get_ref().is_table() { "table" } else { "key" };
                    let near = did_you_mean(other, TABLES);
                    return Err(source.error(&name.span(), format!("unknown {what} {other:?}{near}")));
                }
            };
            for (entry, value) in source.table(format_args!("[{}]", name.get_ref()), value)? {
                let place = Place { kind, name: entry.get_ref() };
                list.push(Table { place, span: entry.span(), table: source.table(place, value)? });
            }
        }
        list.sort_by_key(|table| table.span.start);
        Ok(Self { list })
    }
}

#[derive(Debug)]
struct Builder<'s, 't> {
    source: &'s Source<'t>,
    inventory: Inventory,
    /// The table that defines each host, by the host's place, for duplicates.
    tables: Vec<Option<(Place<'t>, usize)>>,
}

impl<'t> Builder<'_, 't> {
    /// Makes room for as many hosts as there are tables.
    fn reserve(&mut self, tables: usize) {
        self.inventory.hosts.reserve(tables);
        self.inventory.host_ids.reserve(tables);
        self.inventory.layers.reserve(tables);
        self.tables.reserve(tables);
    }

    /// Names every group, so that a table may speak of one that comes later.
    fn declare_groups(&mut self, tables: &Tables<'t>) -> Result<()> {
        for Table { place, span, .. } in tables.list.iter().filter(|table| table.place.kind == Kind::Group) {
            check_group(place.name)
                .map_err(|why| self.source.error(span, format!("{:?} cannot name a group: {why}", place.name)))?;
            let name: Arc<str> = place.name.into();
            self.inventory.group_ids.insert(name.clone(), self.inventory.groups.len());
            self.inventory.groups.push(Group {
                name,
                offset: span.start,
                layer: Layer::default(),
                hosts: Vec::new(),
                children: Vec::new(),
                parents: Vec::new(),
            });
        }
        Ok(())
    }

    fn table(&mut self, table: &Table<'t>) -> Result<()> {
        let (layer, own_keys) = self.source.layer(table.place, table.table)?;
        match table.place.kind {
            Kind::Defaults => {
                self.inventory.defaults = layer;
                Ok(())
            }
            Kind::Group => self.group(table, layer, own_keys),
            Kind::Host => self.hosts(table, layer, own_keys),
        }
    }

    fn group(&mut self, table: &Table<'t>, layer: Layer, own_keys: OwnKeys<'t>) -> Result<()> {
        let id = self.group_id(table.place.name);
        self.group_mut(id).layer = layer;
        for key in own_keys {
            for item in self.source.strings(key)? {
                match key.key {
                    "hosts" => self.group_hosts(id, item)?,
                    _ => self.group_child(id, item)?,
                }
            }
        }
        Ok(())
    }

    fn group_hosts(&mut self, group: usize, item: Setting<'t>) -> Result<()> {
        let span = item.value.span();
        let names = self.names(self.source.string(item)?, &span)?;
        for name in names.iter() {
            let id = self.host(&name, &span)?;
            self.join(id, group);
        }
        Ok(())
    }

    fn group_child(&mut self, group: usize, item: Setting<'t>) -> Result<()> {
        let child = self.known_group(item)?;
        if !self.group_mut(group).children.contains(&child) {
            self.group_mut(group).children.push(child);
            self.group_mut(child).parents.push(group);
        }
        Ok(())
    }

    fn hosts(&mut self, table: &Table<'t>, layer: Layer, own_keys: OwnKeys<'t>) -> Result<()> {
        let names = self.names(table.place.name, &table.span)?;
        let mut addresses = None;
        let mut groups = Vec::new();
        for key in own_keys {
            match key.key {
                "address" => addresses = Some((key, self.addresses(key, names.len())?)),
                _ => {
                    for item in self.source.strings(key)? {
                        groups.push(self.known_group(item)?);
                    }
                }
            }
        }
        let layer = if layer.is_empty() {
            None
        } else {
            self.inventory.layers.push(layer);
            Some(self.inventory.layers.len() - 1)
        };
        let mut addresses = addresses.as_ref().map(|(key, addresses)| (*key, addresses.iter()));
        for name in names.iter() {
            let id = self.host(&name, &table.span)?;
            self.define(id, table)?;
            let address = match addresses.as_mut().and_then(|(key, addresses)| Some((key, addresses.next()?))) {
                Some((key, address)) => {
                    Some(check_address(&address).map_err(|why| self.source.wrong(*key, why))?.into())
                }
                None => None,
            };
            if let Some(entry) = self.inventory.hosts.get_mut(id) {
                entry.layer = layer;
                entry.address = address;
            }
            for group in &groups {
                self.join(id, *group);
            }
        }
        Ok(())
    }

    /// Notes which table defines a host, and refuses a second one.
    fn define(&mut self, id: usize, table: &Table<'t>) -> Result<()> {
        if self.tables.len() <= id {
            self.tables.resize(id + 1, None);
        }
        let Some(slot) = self.tables.get_mut(id) else { return Ok(()) };
        let Some((place, offset)) = slot.replace((table.place, table.span.start)) else { return Ok(()) };
        let name = self.inventory.hosts.get(id).map_or("", |entry| &*entry.name);
        let line = self.source.line(offset);
        let second = table.place;
        let what = format!("host \"{name}\" is defined twice: in {place} on line {line} and in {second}");
        Err(self.source.error(&table.span, what))
    }

    /// Reads an address, or as many as there are names.
    fn addresses(&self, key: Setting<'t>, names: u64) -> Result<Expansion<'t>> {
        let addresses = self.names(self.source.string(key)?, &key.value.span())?;
        match addresses.len() {
            count if count == names => Ok(addresses),
            count => Err(self.source.wrong(key, format!("stands for {count} addresses, the name for {names} hosts"))),
        }
    }

    fn names(&self, text: &'t str, span: &Range<usize>) -> Result<Expansion<'t>> {
        let is_one = !text.contains(|c: char| matches!(c, '[' | ']' | ',') || c.is_whitespace());
        match is_one && !text.is_empty() {
            true => Ok(Expansion::One(text)),
            false => HostSet::parse(text).map(Expansion::Many).map_err(|error| self.source.error(span, error)),
        }
    }

    /// Returns the host of a name, made if it is new.
    fn host(&mut self, name: &str, span: &Range<usize>) -> Result<usize> {
        if let Some(id) = self.inventory.host_ids.get(name) {
            return Ok(*id);
        }
        check_host(name).map_err(|why| self.source.error(span, format!("{name:?} cannot name a host: {why}")))?;
        let id = self.inventory.hosts.len();
        let name: Arc<str> = name.into();
        self.inventory.host_ids.insert(name.clone(), id);
        self.inventory.hosts.push(Entry { name, address: None, layer: None, groups: Vec::new() });
        Ok(id)
    }

    fn join(&mut self, host: usize, group: usize) {
        let Some(entry) = self.inventory.hosts.get_mut(host) else { return };
        if !entry.groups.contains(&group) {
            entry.groups.push(group);
            self.group_mut(group).hosts.push(host);
        }
    }

    fn known_group(&self, item: Setting<'t>) -> Result<usize> {
        let name = self.source.string(item)?;
        self.inventory.group_ids.get(name).copied().ok_or_else(|| {
            let near = did_you_mean(name, self.inventory.groups());
            let mend = if near.is_empty() { format!(": add [groups.{name}]") } else { near };
            self.source.wrong(item, format!("names an unknown group {name:?}{mend}"))
        })
    }

    fn group_id(&self, name: &str) -> usize {
        *self.inventory.group_ids.get(name).unwrap_or_else(|| unreachable!("every group is declared"))
    }

    fn group_mut(&mut self, id: usize) -> &mut Group {
        self.inventory.groups.get_mut(id).unwrap_or_else(|| unreachable!("group ids are made with their groups"))
    }

    fn finish(mut self) -> Result<Inventory> {
        if let Some(cycle) = self.inventory.cycle() {
            let names: Vec<&str> = cycle.iter().map(|id| &*self.inventory.group(*id).name).collect();
            let offset = cycle.first().map_or(0, |id| self.inventory.group(*id).offset);
            let what = format!("groups form a cycle: {}", names.join(" → "));
            return Err(self.source.error(&(offset..offset), what));
        }
        for entry in &mut self.inventory.hosts {
            entry.groups.sort_unstable();
        }
        Ok(self.inventory)
    }
}

/// A written hostset; most are a single name, which needs no parsing.
#[derive(Debug)]
enum Expansion<'t> {
    One(&'t str),
    Many(HostSet),
}

impl Expansion<'_> {
    fn len(&self) -> u64 {
        match self {
            Self::One(_) => 1,
            Self::Many(set) => set.len(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let (one, many) = match self {
            Self::One(name) => (Some(Cow::Borrowed(*name)), None),
            Self::Many(set) => (None, Some(set.iter().map(Cow::Owned))),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

/// Returns an address without the brackets of an IPv6 one, or what is wrong with it.
fn check_address(text: &str) -> Result<&str, &'static str> {
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
