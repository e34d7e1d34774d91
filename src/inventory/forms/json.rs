//! Ansible's JSON: what a program answers to `--list`, and what `ansible-inventory --list` prints.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::Form;
use super::ansible::Given;
use super::ini::{ALL, UNGROUPED, directory};
use crate::error::{Error, Result};
use crate::host::Var;
use crate::inventory::build::{Builder, usage};

/// Asks a program again: `--host NAME`.
pub(super) type Ask<'a> = dyn Fn(&Path, &[&str]) -> Result<String> + 'a;

pub(super) struct Json<'t> {
    path: &'t Path,
    offset: usize,
    groups: Vec<(String, Group)>,
    hosts: Vec<(String, Given)>,
}

#[derive(Default)]
struct Group {
    hosts: Vec<String>,
    children: Vec<String>,
    given: Given,
}

impl<'t> Json<'t> {
    /// Reads the answer to `--list`; without `_meta` each host's variables are asked for, as Ansible does.
    pub(super) fn parse(text: &str, path: &'t Path, offset: usize, ask: Option<&Ask<'_>>) -> Result<Self> {
        let mut json = Self { path, offset, groups: Vec::new(), hosts: Vec::new() };
        if text.trim().is_empty() {
            let what = if ask.is_some() { "prints nothing" } else { "is empty" };
            return Err(usage(format!("{} {what}: expected a JSON object of groups", path.display())));
        }
        let root: Value = serde_json::from_str(text).map_err(|error| json.wrong(&format!("bad JSON: {error}")))?;
        let Value::Object(root) = root else { return Err(json.wrong("expected a JSON object of groups")) };
        let mut vars = None;
        for (name, value) in &root {
            if name == "_meta" {
                vars = Some(match value.get("hostvars") {
                    None => Map::new(),
                    Some(Value::Object(vars)) => vars.clone(),
                    Some(_) => return Err(json.wrong("_meta.hostvars must be an object")),
                });
            } else {
                let group = json.group(name, value)?;
                json.groups.push((name.clone(), group));
            }
        }
        let vars = match (vars, ask) {
            (Some(vars), _) => vars,
            (None, None) => Map::new(),
            (None, Some(ask)) => json.ask_each(ask)?,
        };
        for (host, vars) in vars {
            let Value::Object(vars) = vars else {
                return Err(json.wrong(&format!("the variables of host {host:?} must be an object")));
            };
            let given = json.given(&format!("host {host:?}"), &vars)?;
            json.hosts.push((host, given));
        }
        Ok(json)
    }

    fn group(&self, name: &str, value: &Value) -> Result<Group> {
        let strings = |what: &str, value: Option<&Value>| -> Result<Vec<String>> {
            let wrong = || self.wrong(&format!("{what} of group {name:?} must be a list of names"));
            let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(Vec::new()) };
            let items = value.as_array().ok_or_else(wrong)?;
            items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        };
        match value {
            // The oldest form.
            Value::Array(_) => Ok(Group { hosts: strings("hosts", Some(value))?, ..Group::default() }),
            Value::Object(group) => {
                let given = match group.get("vars") {
                    None | Some(Value::Null) => Given::default(),
                    Some(Value::Object(vars)) => self.given(&format!("group {name:?}"), vars)?,
                    Some(_) => return Err(self.wrong(&format!("vars of group {name:?} must be an object"))),
                };
                let (hosts, children) =
                    (strings("hosts", group.get("hosts"))?, strings("children", group.get("children"))?);
                Ok(Group { hosts, children, given })
            }
            _ => Err(self.wrong(&format!("group {name:?} must be an object or a list of hosts"))),
        }
    }

    fn given(&self, of: &str, vars: &Map<String, Value>) -> Result<Given> {
        let mut given = Given::default();
        for (name, value) in vars {
            let set = given.set(name, var(value), self.offset, directory(self.path));
            set.map_err(|why| self.wrong(&format!("{of}: {why}")))?;
        }
        Ok(given)
    }

    fn ask_each(&self, ask: &Ask<'_>) -> Result<Map<String, Value>> {
        let mut found = Map::new();
        for host in self.groups.iter().flat_map(|(_, group)| &group.hosts) {
            if !found.contains_key(host) {
                let text = ask(self.path, &["--host", host])?;
                let vars = match text.trim() {
                    "" => Value::Object(Map::new()),
                    text => serde_json::from_str(text)
                        .map_err(|error| self.wrong(&format!("bad JSON of --host {host}: {error}")))?,
                };
                found.insert(host.clone(), vars);
            }
        }
        Ok(found)
    }

    fn wrong(&self, why: &str) -> Error {
        usage(format!("{}: {why}", self.path.display()))
    }
}

impl Form for Json<'_> {
    fn declare(&self, builder: &mut Builder) -> Result<()> {
        let named = self.groups.iter().flat_map(|(name, group)| std::iter::once(name).chain(&group.children));
        for name in named.filter(|name| !matches!(&***name, ALL | UNGROUPED)) {
            builder.group(name, self.offset).map_err(|why| self.wrong(&why))?;
        }
        Ok(())
    }

    fn fill(&self, builder: &mut Builder) -> Result<()> {
        for (name, group) in &self.groups {
            let id = match &**name {
                // What is said of those in no group is said of no other.
                name if name == ALL || name == UNGROUPED && group.given.is_empty() => {
                    builder.define_defaults(&group.given.layer)?;
                    None
                }
                name => {
                    let id = builder.group(name, self.offset).map_err(|why| self.wrong(&why))?;
                    builder.define_group(id, &group.given.layer)?;
                    Some(id)
                }
            };
            for host in &group.hosts {
                let host = builder.host(host).map_err(|why| self.wrong(&why))?;
                id.into_iter().for_each(|id| builder.join(host, id));
            }
            for child in group.children.iter().filter(|child| !matches!(&***child, ALL | UNGROUPED)) {
                let child = builder.group(child, self.offset).map_err(|why| self.wrong(&why))?;
                id.into_iter().for_each(|id| builder.adopt(id, child));
            }
        }
        for (name, given) in &self.hosts {
            let host = builder.host(name).map_err(|why| self.wrong(&why))?;
            let layer = builder.layer(given.layer.clone());
            builder.define(host, layer, given.address.as_deref().map(|address| (address, self.offset)), self.offset)?;
        }
        Ok(())
    }
}

/// Turns a JSON value into a variable.
pub(super) fn var(value: &Value) -> Var {
    match value {
        Value::Null => Var::Text(String::new()),
        Value::Bool(value) => Var::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Var::Integer(number),
            None => Var::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Var::Text(text.clone()),
        Value::Array(items) => Var::List(items.iter().map(var).collect()),
        Value::Object(items) => {
            Var::Table(items.iter().map(|(name, item)| (name.clone(), var(item))).collect::<BTreeMap<_, _>>())
        }
    }
}
