//! Ansible's INI: `[group]`, `[group:children]`, `[group:vars]`, ranges, variables behind hosts.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::Form;
use super::ansible::Given;
use crate::error::{Error, Result};
use crate::host::Var;
use crate::hostset::MAX_NAMES;
use crate::inventory::address::is_ip;
use crate::inventory::build::{Builder, usage};
use crate::inventory::spelling::did_you_mean;

/// The group that holds every host, and the one of those in no other.
pub(super) const ALL: &str = "all";
pub(super) const UNGROUPED: &str = "ungrouped";

#[derive(Default)]
pub(super) struct Ini<'t> {
    path: Option<&'t Path>,
    groups: Vec<Group<'t>>,
    group_ids: HashMap<&'t str, usize>,
    hosts: Vec<Host>,
    host_ids: HashMap<String, usize>,
}

struct Group<'t> {
    name: &'t str,
    line: usize,
    offset: usize,
    /// Whether a section names its hosts or children: one that only has variables is a mistake.
    is_declared: bool,
    given: Given,
    hosts: Vec<usize>,
    children: Vec<(&'t str, usize)>,
}

struct Host {
    name: String,
    line: usize,
    offset: usize,
    given: Given,
}

#[derive(Clone, Copy)]
enum Section {
    Hosts,
    Children,
    Vars,
}

impl<'t> Ini<'t> {
    pub(super) fn parse(text: &'t str, path: &'t Path, base: usize) -> Result<Self> {
        let mut ini = Self { path: Some(path), ..Self::default() };
        let mut section = Section::Hosts;
        let mut group = ini.group(UNGROUPED, 1, base);
        let mut offset = base;
        for (index, raw) in text.split('\n').enumerate() {
            let (at, number) = (offset, index + 1);
            offset += raw.len() + 1;
            let line = raw.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            let wrong = |why: String| ini_error(path, number, &why);
            if let Some(header) = header(line).map_err(wrong)? {
                let (name, kind) = match header.rsplit_once(':') {
                    None => (header, Section::Hosts),
                    Some((name, "children")) => (name, Section::Children),
                    Some((name, "vars")) => (name, Section::Vars),
                    Some((_, kind)) => {
                        let near = did_you_mean(kind, ["children", "vars"]);
                        return Err(wrong(format!("unknown kind of section {kind:?} in [{header}]{near}")));
                    }
                };
                section = kind;
                group = ini.group(name.trim(), number, at);
                if let (Some(group), false) = (ini.groups.get_mut(group), matches!(section, Section::Vars)) {
                    group.is_declared = true;
                }
                continue;
            }
            match section {
                Section::Hosts => ini.host_line(line, group, number, at).map_err(wrong)?,
                Section::Children => {
                    let words = words(line).map_err(wrong)?;
                    let [child] = words.as_slice() else {
                        return Err(wrong("expected the name of one group".to_owned()));
                    };
                    let child = line.split_whitespace().next().filter(|word| word == child).unwrap_or(line);
                    ini.groups.get_mut(group).into_iter().for_each(|group| group.children.push((child, number)));
                }
                Section::Vars => {
                    let Some((name, value)) = line.split_once('=') else {
                        return Err(wrong("expected NAME=VALUE".to_owned()));
                    };
                    let value = var(uncommented(value.trim()));
                    if let Some(group) = ini.groups.get_mut(group) {
                        group.given.set(name.trim(), value, at, directory(path)).map_err(wrong)?;
                    }
                }
            }
        }
        Ok(ini)
    }

    fn group(&mut self, name: &'t str, line: usize, offset: usize) -> usize {
        if let Some(id) = self.group_ids.get(name) {
            return *id;
        }
        let is_declared = matches!(name, ALL | UNGROUPED);
        let given = Given::default();
        self.groups.push(Group { name, line, offset, is_declared, given, hosts: Vec::new(), children: Vec::new() });
        self.group_ids.insert(name, self.groups.len() - 1);
        self.groups.len() - 1
    }

    fn host_line(&mut self, line: &str, group: usize, number: usize, at: usize) -> Result<(), String> {
        let words = words(line)?;
        let Some((pattern, rest)) = words.split_first() else { return Ok(()) };
        let mut vars = Vec::with_capacity(rest.len());
        for word in rest {
            let Some((name, value)) = word.split_once('=') else {
                return Err(format!("expected NAME=VALUE behind the host, not {word:?}"));
            };
            vars.push((name, var(value)));
        }
        let (pattern, port) = port(pattern);
        if let Some(port) = port {
            vars.insert(0, ("ansible_port", var(port)));
        }
        let directory = self.path.map_or(Path::new(""), directory);
        for name in expand(pattern)? {
            let id = match self.host_ids.get(&name) {
                Some(id) => *id,
                None => {
                    self.host_ids.insert(name.clone(), self.hosts.len());
                    self.hosts.push(Host { name, line: number, offset: at, given: Given::default() });
                    self.hosts.len() - 1
                }
            };
            if let Some(host) = self.hosts.get_mut(id) {
                for (name, value) in &vars {
                    host.given.set(name, value.clone(), at, directory)?;
                }
            }
            if let Some(group) = self.groups.get_mut(group) {
                group.hosts.push(id);
            }
        }
        Ok(())
    }

    /// Tells whether a group is no group to fleet: `all`, and those in no group unless something is said of them.
    fn is_built_in(group: &Group<'_>) -> bool {
        group.name == ALL || group.name == UNGROUPED && group.given.is_empty()
    }

    /// Returns the hosts that a group names and that belong to it: of those in no group the ones that are in none.
    fn members<'g>(&'g self, group: &'g Group<'_>) -> impl Iterator<Item = usize> + 'g {
        let others =
            self.groups.iter().filter(|other| group.name == UNGROUPED && !matches!(other.name, ALL | UNGROUPED));
        let elsewhere: HashSet<usize> = others.flat_map(|other| other.hosts.iter().copied()).collect();
        group.hosts.iter().copied().filter(move |host| !elsewhere.contains(host))
    }

    /// Returns the addresses that hosts have from their groups, as the nearest one says.
    fn group_addresses(&self) -> HashMap<usize, &str> {
        let mut found: HashMap<usize, (usize, &str)> = HashMap::new();
        for group in &self.groups {
            let Some(address) = group.given.address.as_deref() else { continue };
            if group.name == ALL {
                for host in 0..self.hosts.len() {
                    found.entry(host).or_insert((usize::MAX, address));
                }
                continue;
            }
            let mut seen = HashSet::from([group.name]);
            let mut level = vec![group];
            for distance in 0.. {
                for host in level.iter().flat_map(|group| self.members(group)) {
                    let best = found.entry(host).or_insert((distance, address));
                    *best = (*best).min((distance, address));
                }
                let children = level.iter().flat_map(|group| &group.children);
                let ids =
                    children.filter(|(name, _)| seen.insert(name)).filter_map(|(name, _)| self.group_ids.get(name));
                level = ids.filter_map(|id| self.groups.get(*id)).collect();
                if level.is_empty() {
                    break;
                }
            }
        }
        found.into_iter().map(|(host, (_, address))| (host, address)).collect()
    }

    fn wrong(&self, line: usize, why: &str) -> Error {
        ini_error(self.path.unwrap_or(Path::new("inventory")), line, why)
    }
}

impl Form for Ini<'_> {
    fn declare(&self, builder: &mut Builder) -> Result<()> {
        for group in self.groups.iter().filter(|group| group.is_declared && !Self::is_built_in(group)) {
            builder.group(group.name, group.offset).map_err(|why| self.wrong(group.line, &why))?;
        }
        Ok(())
    }

    fn fill(&self, builder: &mut Builder) -> Result<()> {
        let mut ids = Vec::with_capacity(self.hosts.len());
        builder.reserve(self.hosts.len());
        let addresses = self.group_addresses();
        for (place, Host { name, line, offset, given }) in self.hosts.iter().enumerate() {
            let id = builder.host(name).map_err(|why| self.wrong(*line, &why))?;
            let layer = builder.layer(given.layer.clone());
            let address = given.address.as_deref().or_else(|| addresses.get(&place).copied());
            builder.define(id, layer, address.map(|address| (address, *offset)), *offset)?;
            ids.push(id);
        }
        for group in &self.groups {
            if Self::is_built_in(group) {
                builder.define_defaults(&group.given.layer)?;
                continue;
            }
            let Some(id) = builder.inventory.group_ids.get(group.name).copied() else {
                let near = did_you_mean(group.name, builder.inventory.groups());
                return Err(self.wrong(group.line, &format!("variables of an unknown group {:?}{near}", group.name)));
            };
            builder.define_group(id, &group.given.layer)?;
            self.members(group).filter_map(|host| ids.get(host)).for_each(|host| builder.join(*host, id));
            for (child, line) in &group.children {
                let Some(child) = builder.inventory.group_ids.get(*child).copied() else {
                    let near = did_you_mean(child, builder.inventory.groups());
                    let why = format!("[{}:children] names an unknown group {child:?}{near}", group.name);
                    return Err(self.wrong(*line, &why));
                };
                builder.adopt(id, child);
            }
        }
        Ok(())
    }
}

fn ini_error(path: &Path, line: usize, why: &str) -> Error {
    usage(format!("{}:{line}: {why}", path.display()))
}

pub(super) fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Returns what stands in `[…]`, if the line is a section and no address or range.
fn header(line: &str) -> Result<Option<&str>, String> {
    let line = uncommented(line);
    let Some(rest) = line.strip_prefix('[') else { return Ok(None) };
    match rest.split_once(']') {
        None => Err("expected \"]\" at the end of the section's name".to_owned()),
        Some((name, "")) if !is_ip(name) && !name.contains("::") => match name.trim().is_empty() {
            true => Err("the section has no name".to_owned()),
            false => Ok(Some(name.trim())),
        },
        Some(_) => Ok(None),
    }
}

/// Returns a text without the comment behind it: a `#` after a space, outside of quotes.
fn uncommented(text: &str) -> &str {
    let mut quote = None;
    let mut is_after_space = true;
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None if matches!(c, '#' | ';') && is_after_space => return text.get(..at).unwrap_or(text).trim_end(),
            _ => {}
        }
        is_after_space = c.is_whitespace();
    }
    text
}

/// Splits a line as a shell does: spaces outside of quotes, and `#` for a comment.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '#' if word.is_none() => break,
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => return Err(format!("expected {c} at the end of the value")),
                        Some(end) if end == c => break,
                        Some('\\') if c == '"' => match chars.next() {
                            Some(next @ ('"' | '\\')) => word.push(next),
                            next => word.extend(std::iter::once('\\').chain(next)),
                        },
                        Some(inner) => word.push(inner),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Reads a value as Ansible does: a Python literal if it is one, else a string.
fn var(text: &str) -> Var {
    let is_quoted = |quote: char| text.len() >= 2 && text.starts_with(quote) && text.ends_with(quote);
    if is_quoted('"') || is_quoted('\'') {
        return Var::Text(text.get(1..text.len() - 1).unwrap_or_default().to_owned());
    }
    match text {
        "True" | "true" => return Var::Bool(true),
        "False" | "false" => return Var::Bool(false),
        _ => {}
    }
    let is_number = text.trim_start_matches(['-', '+']).starts_with(|c: char| c.is_ascii_digit());
    // A padded number is a name to people and an error to Python.
    let is_padded = text.len() > 1 && text.starts_with('0') && !text.contains('.');
    if is_number && !is_padded {
        if let Ok(number) = text.parse() {
            return Var::Integer(number);
        }
        if let Ok(number) = text.parse() {
            return Var::Float(number);
        }
    }
    if text.starts_with(['[', '{'])
        && let Ok(value) = serde_json::from_str(&text.replace('\'', "\""))
    {
        return super::json::var(&value);
    }
    Var::Text(text.to_owned())
}

/// Splits the port off a host: `web1:2222`, `[::1]:22`.
fn port(pattern: &str) -> (&str, Option<&str>) {
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((address, rest)) = pattern.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        && is_ip(address)
    {
        return (address, rest.strip_prefix(':').filter(|port| is_port(port)));
    }
    match pattern.rsplit_once(':') {
        Some((host, port)) if is_port(port) && !host.ends_with(':') && !is_ip(pattern) && !port.contains(']') => {
            (host, Some(port))
        }
        _ => (pattern, None),
    }
}

/// Expands `web[01:20:2]` and `db[a:c]`.
fn expand(pattern: &str) -> Result<Vec<String>, String> {
    let Some((before, rest)) = pattern.split_once('[') else { return Ok(vec![pattern.to_owned()]) };
    let Some((range, after)) = rest.split_once(']') else { return Err(format!("expected \"]\" in {pattern:?}")) };
    let wanted = || format!("expected START:END in {pattern:?}: a range is written [01:20], [01:20:2] or [a:f]");
    let mut parts = range.split(':');
    let (start, end, step, more) = (parts.next().unwrap_or_default(), parts.next(), parts.next(), parts.next());
    let (Some(end), None) = (end, more) else {
        return Err(match range.contains('-') {
            true => format!("{}; [1-3] is the form of fleet's own inventories", wanted()),
            false => wanted(),
        });
    };
    let start = if start.is_empty() { "0" } else { start };
    let step = match step {
        None => 1,
        Some(step) => step.parse().ok().filter(|step| *step > 0).ok_or_else(wanted)?,
    };
    let letters = |text: &str| {
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(letter), None) if letter.is_ascii_alphabetic() => Some(letter),
            _ => None,
        }
    };
    let middles: Vec<String> = match (start.parse::<u64>(), end.parse::<u64>(), letters(start), letters(end)) {
        (Ok(first), Ok(last), ..) => {
            let width = if start.starts_with('0') && start.len() > 1 { start.len() } else { 0 };
            if width > 0 && width != end.len() {
                return Err(format!("the ends are padded differently in {pattern:?}"));
            }
            if last < first || (last - first) / step as u64 >= MAX_NAMES {
                return Err(format!(
                    "the range in {pattern:?} runs backwards, or stands for more than {MAX_NAMES} names"
                ));
            }
            (first..=last).step_by(step).map(|number| format!("{number:0width$}")).collect()
        }
        (_, _, Some(first), Some(last)) if first <= last => {
            (first..=last).filter(char::is_ascii_alphabetic).step_by(step).map(|letter| letter.to_string()).collect()
        }
        _ => return Err(wanted()),
    };
    let tails = expand(after)?;
    if middles.len() as u64 * tails.len() as u64 > MAX_NAMES {
        return Err(format!("{pattern:?} stands for more than {MAX_NAMES} names"));
    }
    Ok(middles.iter().flat_map(|middle| tails.iter().map(move |tail| format!("{before}{middle}{tail}"))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_ansibles() {
        for (pattern, names) in [
            ("web1", "web1"),
            ("web[1:3]", "web1 web2 web3"),
            ("web[08:11].x", "web08.x web09.x web10.x web11.x"),
            ("web[1:10:4]", "web1 web5 web9"),
            ("db-[a:c]", "db-a db-b db-c"),
            ("r[1:2]n[a:b]", "r1na r1nb r2na r2nb"),
            ("n[:2]", "n0 n1 n2"),
        ] {
            assert_eq!(expand(pattern).unwrap().join(" "), names, "{pattern}");
        }
        for pattern in ["a[", "a[]", "a[1-3]", "a[3:1]", "a[1:3:0]", "a[01:100]", "a[a:3]", "a[c:a]", "a[0:99999999]"] {
            assert!(expand(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_line_is_split_as_a_shell_does() {
        assert_eq!(words("a b='c d' e=\"f\\\"g\" # h").unwrap(), ["a", "b=c d", "e=f\"g"]);
        assert_eq!(words("a b=c#d").unwrap(), ["a", "b=c#d"]);
        assert!(words("a b='c").is_err());
    }

    #[test]
    fn values_are_python_literals() {
        for (text, value) in [
            ("3", Var::Integer(3)),
            ("-3", Var::Integer(-3)),
            ("0.5", Var::Float(0.5)),
            ("007", Var::Text("007".into())),
            ("True", Var::Bool(true)),
            ("'True'", Var::Text("True".into())),
            ("10.0.0.1", Var::Text("10.0.0.1".into())),
            ("['a', 'b']", Var::List(vec![Var::Text("a".into()), Var::Text("b".into())])),
            ("", Var::Text(String::new())),
        ] {
            assert_eq!(var(text), value, "{text}");
        }
    }
}
