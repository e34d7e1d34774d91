//! Selecting by variables: `vars.role=frontend`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use wildmatch::WildMatch;

use super::precedence::Layers;
use super::spelling::did_you_mean;
use super::term::{Choice, Context, Evaluator, usage};
use super::{Entry, Inventory};
use crate::error::Result;
use crate::host::{Settings, Var};

impl Evaluator<'_> {
    /// Evaluates `vars.NAME=VALUE`, where the value may be a glob and the name may lead into tables, with dots.
    pub(super) fn var(&self, path: &str, value: &str, context: Context<'_>) -> Result<Choice> {
        if path.is_empty() || value.is_empty() {
            return Err(context.wrong("expected vars.NAME=VALUE"));
        }
        let query = Query { inventory: self.inventory, path, value: WildMatch::new(value), flags: Settings::default() };
        let mut choice = Choice::default();
        // What the groups say is the same for all hosts of the same groups.
        let mut by_groups: HashMap<Cow<'_, [usize]>, bool> = HashMap::new();
        let derived = self.derived_members(|layer| query.has(&layer.vars).is_some())?;
        for (id, entry) in self.inventory.hosts.iter().enumerate() {
            let matches = match query.own(entry) {
                Some(matches) => matches,
                None => {
                    let mut groups = Cow::Borrowed(&*entry.groups);
                    for (group, _) in derived.iter().filter(|(_, hosts)| hosts.contains(id)) {
                        if !groups.contains(group) {
                            groups.to_mut().push(*group);
                        }
                    }
                    match by_groups.get(&groups) {
                        Some(matches) => *matches,
                        None => {
                            let matches = query.inherited(entry, &groups)?;
                            by_groups.insert(groups, matches);
                            matches
                        }
                    }
                }
            };
            if matches {
                choice.hosts.insert(id);
            }
        }
        match choice.is_empty() && !context.excluding {
            true => Err(usage(format!("no host has {}{}", context.term.text, query.near()))),
            false => Ok(choice),
        }
    }
}

struct Query<'a> {
    inventory: &'a Inventory,
    path: &'a str,
    value: WildMatch,
    /// No flag sets a variable.
    flags: Settings,
}

impl Query<'_> {
    /// Returns whether the host's own variable matches; none if it has no such variable.
    fn own(&self, entry: &Entry) -> Option<bool> {
        let layer = self.inventory.layers.get(entry.layer?)?;
        self.has(&layer.vars)
    }

    fn has(&self, vars: &BTreeMap<String, Var>) -> Option<bool> {
        self.names().find_map(|name| Some(self.matches(name, vars.get(name)?)))
    }

    /// Returns what may be the variable's name: a name may itself have dots, and the longest that is there counts.
    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self.path), |name| name.rsplit_once('.').map(|(name, _)| name))
    }

    /// Tells whether the value matches, or what the rest of the path leads to in it.
    fn matches(&self, name: &str, var: &Var) -> bool {
        let inner = self.path.get(name.len()..).unwrap_or_default();
        let found = inner.split('.').filter(|name| !name.is_empty()).try_fold(var, |var, name| match var {
            Var::Table(table) => table.get(name),
            _ => None,
        });
        match found {
            Some(Var::List(items)) => items.iter().any(|item| self.value.matches(&item.to_string())),
            Some(var) => self.value.matches(&var.to_string()),
            None => false,
        }
    }

    /// Tells whether the variable that the host's groups or the defaults give it matches.
    fn inherited(&self, entry: &Entry, groups: &[usize]) -> Result<bool> {
        let inventory = self.inventory;
        let groups = inventory.reach(groups);
        let vars = groups.iter().map(|(id, _)| &inventory.group(*id).layer.vars).chain([&inventory.defaults.vars]);
        // Groups that do not agree are no matter as long as the host is not meant by any of them.
        if !vars.clone().any(|vars| self.has(vars) == Some(true)) {
            return Ok(false);
        }
        let Some(name) = self.names().find(|name| vars.clone().any(|vars| vars.contains_key(*name))) else {
            return Ok(false);
        };
        let layers = Layers { inventory, flags: &self.flags, host: None, groups, name: &entry.name, is_bastion: false };
        let nearest = layers.nearest_group(&format!("vars.{name}"), |layer| layer.vars.get(name))?;
        let layer = nearest.map_or(&inventory.defaults, |id| &inventory.group(id).layer);
        Ok(layer.vars.get(name).is_some_and(|var| self.matches(name, var)))
    }

    /// Suggests the nearest name of a variable, if nobody has this one.
    fn near(&self) -> String {
        let inventory = self.inventory;
        let layers = inventory.layers.iter().chain(inventory.groups.iter().map(|group| &group.layer));
        let vars = || layers.clone().chain([&inventory.defaults]).map(|layer| &layer.vars);
        if vars().any(|vars| self.has(vars).is_some()) {
            return String::new();
        }
        let names: BTreeSet<&String> = vars().flat_map(|vars| vars.keys()).collect();
        let names: Vec<String> = names.into_iter().map(|name| format!("vars.{name}")).collect();
        did_you_mean(&format!("vars.{}", self.path), names.iter().map(String::as_str))
    }
}
