//! What a term of a selection stands for.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use regex::Regex;
use wildmatch::WildMatch;

use super::Inventory;
use super::address::{Written, check_host, is_ip, split};
use super::expr::{self, FILE_PREFIX, Term};
use super::members::Rules;
use super::select::{Logins, Names};
use super::set::Bits;
use super::spelling::{did_you_mean, nearest};
use crate::error::{Error, ErrorKind, Result};
use crate::hostset::{HostSet, Syntax, fold};

/// How many unknown names an error tells of.
const MAX_UNKNOWN: usize = 100_000;

/// A user and a port that were written beside a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Login {
    pub(super) user: Option<Arc<str>>,
    pub(super) port: Option<u16>,
}

/// A target that the inventory does not have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    /// As it was written.
    pub(super) name: Arc<str>,
    pub(super) host: Arc<str>,
    pub(super) login: Login,
}

/// Addresses, each once, in the order given.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses {
    pub(super) list: Vec<Address>,
    known: HashSet<(Arc<str>, Login)>,
}

impl Addresses {
    fn insert(&mut self, address: Address) {
        if self.known.insert((address.host.clone(), address.login.clone())) {
            self.list.push(address);
        }
    }

    fn retain(&mut self, keep: impl Fn(&Address) -> bool) {
        let known = &mut self.known;
        self.list.retain(|address| {
            let kept = keep(address);
            if !kept {
                known.remove(&(address.host.clone(), address.login.clone()));
            }
            kept
        });
    }

    /// Tells whether an address is in the set: one written without user or port stands for all of them.
    fn covers(&self, address: &Address) -> bool {
        let Login { user, port } = &address.login;
        let users = [user.clone(), None];
        users.into_iter().any(|user| {
            [*port, None]
                .into_iter()
                .any(|port| self.known.contains(&(address.host.clone(), Login { user: user.clone(), port })))
        })
    }
}

/// A set of hosts: places in the inventory, logins written beside them, and addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice {
    pub(super) hosts: Bits,
    pub(super) logins: Logins,
    pub(super) addresses: Addresses,
}

impl Choice {
    pub(super) fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.addresses.list.is_empty()
    }

    /// # Errors
    ///
    /// When one inventory host is written with two logins: it can be reached by one only.
    pub(super) fn unite(&mut self, other: Self) -> Result<()> {
        for (id, (login, written)) in other.logins {
            match self.logins.get(&id) {
                Some((first, before)) if *first != login && self.hosts.contains(id) => {
                    return Err(usage(format!("\"{before}\" and \"{written}\" are one host: keep one of them")));
                }
                _ => self.logins.insert(id, (login, written)),
            };
        }
        self.hosts.union(&other.hosts);
        other.addresses.list.into_iter().for_each(|address| self.addresses.insert(address));
        Ok(())
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        self.hosts.subtract(&other.hosts);
        self.addresses.retain(|address| !other.addresses.covers(address));
    }

    pub(super) fn intersect(&mut self, other: &Self) {
        self.hosts.intersect(&other.hosts);
        self.addresses.retain(|address| other.addresses.covers(address));
    }

    pub(super) fn toggle(&mut self, mut other: Self) -> Result<()> {
        let before = self.clone();
        self.subtract(&other);
        other.subtract(&before);
        self.unite(other)
    }
}

/// Turns terms into sets of hosts.
pub(super) struct Evaluator<'a> {
    pub(super) inventory: &'a Inventory,
    pub(super) names: &'a dyn Names,
    all: OnceCell<Bits>,
    /// Where the relative paths of `@file:` start.
    pub(super) directory: RefCell<PathBuf>,
    /// The lists that are being read, each named by the one before.
    pub(super) open: RefCell<Vec<PathBuf>>,
    /// Why there are no groups, where there is no inventory.
    pub(super) no_groups: &'static str,
    /// The rules of an inventory that is being built, where their expressions are evaluated: only its hosts exist.
    pub(super) rules: Option<&'a Rules<'a>>,
    /// The column at which a rule's expression is wrong.
    pub(super) fault: Cell<Option<usize>>,
}

/// A term, where it stands and how it is read.
#[derive(Clone, Copy)]
pub(super) struct Context<'t> {
    pub(super) term: &'t Term,
    pub(super) text: &'t str,
    pub(super) is_ansible: bool,
    pub(super) excluding: bool,
    /// Where the column is noted, if whoever asks points at it.
    fault: Option<&'t Cell<Option<usize>>>,
}

impl Context<'_> {
    /// Makes an error that points at the term.
    pub(super) fn wrong(&self, why: impl Into<String>) -> Error {
        self.wrong_at(&Syntax::new(self.term.column, why))
    }

    fn wrong_at(&self, syntax: &Syntax) -> Error {
        match self.fault {
            Some(fault) => {
                fault.set(Some(syntax.column));
                usage(syntax.message.clone())
            }
            None => expr::error(self.text, syntax),
        }
    }
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(inventory: &'a Inventory, names: &'a dyn Names) -> Self {
        Self {
            inventory,
            names,
            all: OnceCell::new(),
            directory: RefCell::default(),
            open: RefCell::default(),
            no_groups: "there is no inventory, name one with -i",
            rules: None,
            fault: Cell::new(None),
        }
    }

    /// Sets where the relative paths of `@file:` start; returns where they did.
    pub(super) fn read_from(&self, directory: &Path) -> PathBuf {
        self.directory.replace(directory.to_owned())
    }

    /// Tells whether a rule's own text is evaluated, and not a list that it names.
    fn is_rule(&self) -> bool {
        self.rules.is_some() && self.open.borrow().is_empty()
    }

    /// Notes at which term a rule's expression is wrong, unless the place is known better.
    pub(super) fn blame(&self, column: usize) {
        if self.is_rule() && self.fault.get().is_none() {
            self.fault.set(Some(column));
        }
    }

    pub(super) fn all(&self) -> Bits {
        self.all.get_or_init(|| Bits::full(self.inventory.hosts.len())).clone()
    }

    /// Tells whether a word names a host or a group.
    pub(super) fn is_name(&self, name: &str) -> bool {
        self.inventory.host_ids.contains_key(name) || self.inventory.group_ids.contains_key(name)
    }

    pub(super) fn term(&self, term: &Term, text: &str, is_ansible: bool, excluding: bool) -> Result<Choice> {
        let fault = self.is_rule().then_some(&self.fault);
        let context = Context { term, text, is_ansible, excluding, fault };
        if let Some(path) = term.text.strip_prefix(FILE_PREFIX) {
            return self.file(path, context);
        }
        if term.text == "-" {
            return self.stdin(context);
        }
        if let Some((name, value)) = term.text.strip_prefix("vars.").and_then(|rest| rest.split_once('=')) {
            return self.var(name, value, context);
        }
        if let Some(reference) = term.text.strip_prefix('@') {
            return self.reference(reference, context);
        }
        if let Some(regex) = term.text.strip_prefix("~/") {
            return self.regex(regex.strip_suffix('/').unwrap_or(regex), context);
        }
        let mut choice = Choice::default();
        let mut unknown = Vec::new();
        for word in self.words(context)?.iter() {
            if is_glob(&word) {
                choice.unite(self.glob(&word, context)?)?;
            } else if !self.word(&word, context, &mut choice)? {
                unknown.push(word);
                // Of millions, more would only take time and room.
                if unknown.len() == MAX_UNKNOWN {
                    break;
                }
            }
        }
        if unknown.is_empty() { Ok(choice) } else { Err(self.unknown(&unknown, is_ansible)) }
    }

    /// Returns the groups that `-g` asks for.
    pub(super) fn groups(&self, text: &str) -> Result<Bits> {
        let mut hosts = Bits::default();
        for name in HostSet::parse(text.strip_prefix('@').unwrap_or(text))?.iter() {
            hosts.union(&self.group(&name, false)?);
        }
        Ok(hosts)
    }

    fn words(&self, context: Context<'_>) -> Result<HostSet> {
        HostSet::parse_at(&context.term.text).map_err(|Syntax { column, message }| {
            context.wrong_at(&Syntax::new(column + context.term.column - 1, message))
        })
    }

    /// Evaluates `@group`, `@glob*` and the names of others.
    fn reference(&self, reference: &str, context: Context<'_>) -> Result<Choice> {
        if !self.inventory.group_ids.contains_key(reference)
            && let Some(names) = self.names.names(reference)
        {
            let mut choice = Choice::default();
            for name in names? {
                if !self.word(&name, context, &mut choice)? {
                    return Err(self.unknown(&[name], false));
                }
            }
            return Ok(choice);
        }
        let names = HostSet::parse_at(reference).map_err(|Syntax { column, message }| {
            context.wrong_at(&Syntax::new(column + context.term.column, message))
        })?;
        let mut choice = Choice::default();
        for name in names.iter() {
            choice.hosts.union(&self.group(&name, context.excluding)?);
        }
        Ok(choice)
    }

    /// Returns the hosts of a group, or of the groups that a glob matches.
    fn group(&self, name: &str, excluding: bool) -> Result<Bits> {
        let inventory = self.inventory;
        if let Some(id) = inventory.group_ids.get(name) {
            return self.members(*id);
        }
        if matches!(name, "*" | "all") && !inventory.hosts.is_empty() {
            return Ok(self.all());
        }
        if !is_glob(name) {
            let near = match inventory.source() {
                Some(_) => did_you_mean(name, inventory.groups()),
                None => format!(": {}", self.no_groups),
            };
            return Err(usage(format!("no group is named \"{name}\"{near}")));
        }
        let glob = WildMatch::new(name);
        let mut hosts = Bits::default();
        let mut is_found = excluding;
        for (id, _) in inventory.groups.iter().enumerate().filter(|(_, group)| glob.matches(&group.name)) {
            is_found = true;
            hosts.union(&self.members(id)?);
        }
        if is_found { Ok(hosts) } else { Err(usage(format!("no group matches \"{name}\""))) }
    }

    fn regex(&self, pattern: &str, context: Context<'_>) -> Result<Choice> {
        let regex = Regex::new(pattern).map_err(|error| {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            context.wrong(format!("bad regular expression: {why}"))
        })?;
        if !context.is_ansible {
            return self.matching(|name| regex.is_match(name), &context.term.text, context.excluding);
        }
        let mut choice = self.matching(|name| regex.is_match(name), &context.term.text, true)?;
        for (id, _) in self.inventory.groups.iter().enumerate().filter(|(_, group)| regex.is_match(&group.name)) {
            choice.hosts.union(&self.members(id)?);
        }
        match choice.is_empty() && !context.excluding {
            true => Err(usage(format!("no host and no group matches \"{}\"", context.term.text))),
            false => Ok(choice),
        }
    }

    fn glob(&self, pattern: &str, context: Context<'_>) -> Result<Choice> {
        let glob = WildMatch::new(pattern);
        if !context.is_ansible {
            return self.matching(|name| glob.matches(name), pattern, context.excluding);
        }
        let mut choice = self.matching(|name| glob.matches(name), pattern, true)?;
        choice.hosts.union(&self.group(pattern, context.excluding || !choice.is_empty())?);
        Ok(choice)
    }

    fn matching(&self, matches: impl Fn(&str) -> bool, pattern: &str, may_be_empty: bool) -> Result<Choice> {
        let mut choice = Choice::default();
        let found = self.inventory.hosts().enumerate().filter(|(_, name)| matches(name));
        found.for_each(|(id, _)| choice.hosts.insert(id));
        match choice.is_empty() && !may_be_empty {
            true => Err(usage(format!("no host matches \"{pattern}\""))),
            false => Ok(choice),
        }
    }

    /// Adds what a word stands for; false if it stands for nothing.
    pub(super) fn word(&self, word: &str, context: Context<'_>, choice: &mut Choice) -> Result<bool> {
        let inventory = self.inventory;
        if let Some(id) = inventory.host_ids.get(word) {
            choice.hosts.insert(*id);
            return Ok(true);
        }
        if !context.is_ansible && self.names.is_host(word) {
            let address = Address { name: word.into(), host: word.into(), login: Login::default() };
            choice.addresses.insert(address);
            return Ok(true);
        }
        if let Some(id) = inventory.group_ids.get(word) {
            if context.is_ansible {
                choice.hosts.union(&self.members(*id)?);
            }
            return Ok(context.is_ansible);
        }
        if context.is_ansible && word == "all" {
            choice.hosts.union(&self.all());
            return Ok(true);
        }
        let bad = |why: String| context.wrong(format!("\"{word}\" is no address: {why}"));
        let written = split(word).map_err(bad)?;
        let login = Login { user: written.user.map(Arc::from), port: written.port };
        if let Some(id) = inventory.host_ids.get(written.host) {
            let mut one = Choice::default();
            one.hosts.insert(*id);
            if login != Login::default() {
                if self.rules.is_some() {
                    let host = written.host;
                    return Err(context.wrong(format!(
                        "a group's expression takes no user and no port: set them in [hosts.{host:?}]"
                    )));
                }
                one.logins.insert(*id, (login, word.into()));
            }
            choice.unite(one)?;
            return Ok(true);
        }
        let is_elsewhere = self.names.is_host(written.host);
        if self.rules.is_some() {
            return Ok(false);
        }
        let is_address = written.is_ip() || login != Login::default() || inventory.source().is_none();
        if is_address && !is_elsewhere {
            check_address(&written).map_err(bad)?;
        }
        if is_address || is_elsewhere {
            choice.addresses.insert(Address { name: word.into(), host: written.host.into(), login });
        }
        Ok(is_address || is_elsewhere)
    }

    /// Says why a name of a rule is no new host.
    fn unadded(&self) -> String {
        let why = self.rules.map(|_| ": only an entry without operators adds hosts");
        why.unwrap_or_default().to_owned()
    }

    /// Makes the error that names stand for nothing.
    pub(super) fn unknown(&self, names: &[String], is_ansible: bool) -> Error {
        let inventory = self.inventory;
        let shown = fold(names);
        let mend = match names {
            [name] if !is_ansible && inventory.group_ids.contains_key(name.as_str()) => {
                format!(": a group is written \"@{name}\"")
            }
            [name] if name == "all" && !is_ansible => ": every host is written \"*\", or -a".to_owned(),
            [name] if name.contains(':') && name.split(':').all(|part| self.is_name(part)) => {
                ": hosts are joined with \",\"".to_owned()
            }
            [name] => match nearest(name, inventory.hosts().chain(inventory.groups())) {
                Some(host) if is_ansible || inventory.host_ids.contains_key(host) => {
                    format!(": did you mean \"{host}\"?")
                }
                Some(group) => format!(": did you mean \"@{group}\"?"),
                None => self.unadded(),
            },
            _ => self.unadded(),
        };
        usage(format!("no host, group or pattern matches \"{shown}\"{mend}"))
    }
}

fn check_address(written: &Written<'_>) -> Result<(), String> {
    match is_ip(written.host) {
        true => Ok(()),
        false if written.host.contains(':') => Err("a port is a number".to_owned()),
        false => check_host(written.host),
    }
}

pub(super) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?'])
}

pub(super) fn usage(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, what)
}
