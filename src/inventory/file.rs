//! Inventories in TOML, fleet's own form.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::DeTable;

use super::build::{Builder, Files, check_address};
use super::forms::Form;
use super::layer::{Kind, Layer, Place};
use super::members::{WrittenRule, is_expression};
use super::spelling::did_you_mean;
use super::value::{OwnKeys, Setting, Source};
use crate::error::Result;
use crate::hostset::HostSet;

const TABLES: [&str; 3] = ["defaults", "groups", "hosts"];

/// A file in fleet's own form, parsed.
#[derive(Debug)]
pub(super) struct Toml<'t> {
    source: Source<'t>,
    document: Spanned<DeTable<'t>>,
}

impl<'t> Toml<'t> {
    pub(super) fn parse(text: &'t str, path: &'t Path, files: &mut Files) -> Result<Self> {
        let source = Source::new(text, path, files);
        let document = DeTable::parse(text).map_err(|error| source.syntax(&error))?;
        Ok(Self { source, document })
    }
}

impl Form for Toml<'_> {
    fn declare(&self, builder: &mut Builder) -> Result<()> {
        let Some((name, groups)) = self.document.get_ref().get_key_value("groups") else { return Ok(()) };
        let mut groups: Vec<_> = self.source.table(format_args!("[{}]", name.get_ref()), groups)?.keys().collect();
        groups.sort_by_key(|name| name.span().start);
        for name in groups {
            let declared = builder.group(name.get_ref(), self.source.offset(&name.span()));
            declared.map_err(|why| self.source.error(&name.span(), why))?;
        }
        Ok(())
    }

    fn fill(&self, builder: &mut Builder) -> Result<()> {
        let tables = Tables::collect(&self.source, self.document.get_ref())?;
        builder.reserve(tables.list.len());
        let mut reader = Reader { source: &self.source, builder, tables: Vec::new() };
        tables.list.iter().try_for_each(|table| reader.table(table))
    }
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
struct Reader<'s, 't, 'b> {
    source: &'s Source<'t>,
    builder: &'b mut Builder,
    /// The table that defines each host, by the host's place, for duplicates.
    tables: Vec<Option<(Place<'t>, usize)>>,
}

impl<'t> Reader<'_, 't, '_> {
    fn table(&mut self, table: &Table<'t>) -> Result<()> {
        let (layer, own_keys) = self.source.layer(table.place, table.table)?;
        match table.place.kind {
            Kind::Defaults => self.builder.define_defaults(&layer),
            Kind::Group => self.group(table, &layer, own_keys),
            Kind::Host => self.hosts(table, layer, own_keys),
        }
    }

    fn group(&mut self, table: &Table<'t>, layer: &Layer, own_keys: OwnKeys<'t>) -> Result<()> {
        let declared = self.builder.group(table.place.name, self.source.offset(&table.span));
        let id = declared.map_err(|why| self.source.error(&table.span, why))?;
        self.builder.define_group(id, layer)?;
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
        let text = self.source.string(item)?;
        if is_expression(text) {
            let (offset, column) = (self.source.offset(&span), self.source.column_of(item, text));
            let directory = self.source.directory();
            self.builder.written_rules.push(WrittenRule { group, text: text.to_owned(), offset, column, directory });
            return Ok(());
        }
        let names = self.names(text, &span)?;
        for name in names.iter() {
            let id = self.host(&name, &span)?;
            self.builder.join(id, group);
        }
        Ok(())
    }

    fn group_child(&mut self, group: usize, item: Setting<'t>) -> Result<()> {
        let child = self.known_group(item)?;
        self.builder.adopt(group, child);
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
        let layer = self.builder.layer(layer);
        let offset = self.source.offset(&table.span);
        let address_place = addresses.as_ref().map(|(key, _)| self.source.offset(&key.value.span()));
        let mut addresses = addresses.as_ref().map(|(key, addresses)| (*key, addresses.iter()));
        for name in names.iter() {
            let id = self.host(&name, &table.span)?;
            self.defined_once(id, table)?;
            let address = match addresses.as_mut().and_then(|(key, addresses)| Some((key, addresses.next()?))) {
                Some((key, address)) => {
                    Some(check_address(&address).map_err(|why| self.source.wrong(*key, why))?.to_owned())
                }
                None => None,
            };
            self.builder.define(id, layer, address.as_deref().zip(address_place), offset)?;
            for group in &groups {
                self.builder.join(id, *group);
            }
        }
        Ok(())
    }

    /// Notes which table defines a host, and refuses a second one.
    fn defined_once(&mut self, id: usize, table: &Table<'t>) -> Result<()> {
        if self.tables.len() <= id {
            self.tables.resize(id + 1, None);
        }
        let Some(slot) = self.tables.get_mut(id) else { return Ok(()) };
        let Some((place, offset)) = slot.replace((table.place, table.span.start)) else { return Ok(()) };
        let name = self.builder.inventory.hosts.get(id).map_or("", |entry| &*entry.name);
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

    fn host(&mut self, name: &str, span: &Range<usize>) -> Result<usize> {
        self.builder.host(name).map_err(|why| self.source.error(span, why))
    }

    fn known_group(&self, item: Setting<'t>) -> Result<usize> {
        let name = self.source.string(item)?;
        self.builder.inventory.group_ids.get(name).copied().ok_or_else(|| {
            let near = did_you_mean(name, self.builder.inventory.groups());
            let mend = if near.is_empty() { format!(": add [groups.{name}]") } else { near };
            self.source.wrong(item, format!("names an unknown group {name:?}{mend}"))
        })
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
