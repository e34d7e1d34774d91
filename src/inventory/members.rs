//! Groups that hold hosts by an expression: `hosts = ["@web!@canary"]`.
//!
//! Expressions are evaluated when all files are read, and put the hosts they find into their group as if each were named
//! there. A group that one of them asks for is evaluated first, and everything below it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;

use super::build::{Builder, usage};
use super::expr;
use super::layer::Layer;
use super::select::{NoNames, evaluate};
use super::set::Bits;
use super::term::{Evaluator, is_glob};
use super::{Entry, Inventory};
use crate::error::{Error, Result};

/// How many groups may wait for one another: each takes a part of the stack.
const MAX_DEPTH: usize = 64;

/// An expression as it is written in a group.
#[derive(Debug)]
pub(super) struct WrittenRule {
    pub(super) group: usize,
    pub(super) text: String,
    pub(super) offset: usize,
    /// The column of its first character, where it is known.
    pub(super) column: Option<usize>,
    /// Where its relative paths start.
    pub(super) directory: PathBuf,
}

/// An expression and the hosts that it puts into a group.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) group: usize,
    pub(super) text: Box<str>,
    pub(super) offset: usize,
    pub(super) hosts: Bits,
}

/// The expressions of an inventory that is being built, and what is known of them.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    list: &'a [WrittenRule],
    by_group: HashMap<usize, Vec<usize>>,
    /// What each of them stands for.
    found: RefCell<Vec<Bits>>,
    /// The hosts of the groups that are done.
    members: RefCell<HashMap<usize, Bits>>,
    /// The groups that are being evaluated, each for the one before.
    path: RefCell<Vec<usize>>,
    /// Whether an error names its place already.
    is_placed: Cell<bool>,
}

/// Tells whether a group's entry only selects hosts, where a hostset also defines them.
pub(super) fn is_expression(text: &str) -> bool {
    let is_var = |term: &str| term.starts_with("vars.") && term.contains('=');
    text.contains(['!', '&', '^', '(', ')'])
        || is_glob(text)
        || text.split([',', ' ', '\t']).any(|term| term.starts_with(['@', '~']) || is_var(term))
}

impl Builder {
    /// Puts hosts into the groups that hold them by expressions.
    ///
    /// # Errors
    ///
    /// What is wrong with an expression, with its place; a cycle of groups that need one another.
    pub(super) fn apply_rules(&mut self) -> Result<()> {
        if self.written_rules.is_empty() {
            return Ok(());
        }
        let list = std::mem::take(&mut self.written_rules);
        let found = self.inventory.evaluate_rules(&list)?;
        for (WrittenRule { group, text, offset, .. }, hosts) in list.into_iter().zip(found) {
            hosts.iter().for_each(|host| self.join(host, group));
            self.inventory.rules.push(Rule { group, text: text.into(), offset, hosts });
        }
        Ok(())
    }
}

impl Inventory {
    fn evaluate_rules(&self, list: &[WrittenRule]) -> Result<Vec<Bits>> {
        let mut by_group: HashMap<usize, Vec<usize>> = HashMap::new();
        for (index, rule) in list.iter().enumerate() {
            by_group.entry(rule.group).or_default().push(index);
        }
        let rules = Rules {
            list,
            by_group,
            found: RefCell::new(vec![Bits::default(); list.len()]),
            members: RefCell::default(),
            path: RefCell::default(),
            is_placed: Cell::new(false),
        };
        let mut evaluator = Evaluator::new(self, &NoNames);
        evaluator.rules = Some(&rules);
        list.iter().try_for_each(|rule| evaluator.members(rule.group).map(drop))?;
        drop(evaluator);
        Ok(rules.found.into_inner())
    }

    /// Lists the groups that hold a host, nearest first, with their places and the expressions that put it there.
    pub(super) fn memberships(&self, name: &str) -> Vec<String> {
        let (Some(id), Some(Entry { groups, .. })) = (self.host_ids.get(name), self.entry(name)) else {
            return Vec::new();
        };
        let reached = self.reach(groups);
        let lines = reached.iter().flat_map(|(group, _)| {
            let rules = self.rules.iter().filter(|rule| rule.group == *group && rule.hosts.contains(*id));
            let name = &self.group(*group).name;
            let mut said: Vec<String> =
                rules.map(|rule| format!("{name}: {} ({})", rule.text, self.place(rule.offset))).collect();
            if said.is_empty() {
                said.push(format!("{name} ({})", self.place(self.group(*group).offset)));
            }
            said
        });
        lines.collect()
    }
}

impl Evaluator<'_> {
    /// Returns the hosts of a group and of everything below it.
    ///
    /// # Errors
    ///
    /// Only while the inventory is built: what is wrong with the expressions of these groups.
    pub(super) fn members(&self, id: usize) -> Result<Bits> {
        let Some(rules) = self.rules else { return Ok(self.inventory.group_members(id)) };
        if let Some(hosts) = rules.members.borrow().get(&id) {
            return Ok(hosts.clone());
        }
        rules.enter(self.inventory, id)?;
        let group = self.inventory.group(id);
        let mut hosts = Bits::default();
        hosts.extend(&group.hosts);
        for index in rules.by_group.get(&id).into_iter().flatten() {
            let Some(rule) = rules.list.get(*index) else { continue };
            let found = self.rule(rule).map_err(|error| self.placed(rules, rule, error))?;
            hosts.union(&found);
            if let Some(slot) = rules.found.borrow_mut().get_mut(*index) {
                *slot = found;
            }
        }
        for child in &group.children {
            hosts.union(&self.members(*child)?);
        }
        rules.path.borrow_mut().pop();
        rules.members.borrow_mut().insert(id, hosts.clone());
        Ok(hosts)
    }

    /// Returns the groups with expressions that hand down something to their hosts, and these hosts.
    pub(super) fn derived_members(&self, hands_down: impl Fn(&Layer) -> bool) -> Result<Vec<(usize, Bits)>> {
        let Some(rules) = self.rules else { return Ok(Vec::new()) };
        let mut groups: Vec<usize> = rules.by_group.keys().copied().collect();
        groups.sort_unstable();
        groups.retain(|id| {
            let reached = self.inventory.reach(&[*id]);
            reached.iter().any(|(id, _)| hands_down(&self.inventory.group(*id).layer))
        });
        groups
            .into_iter()
            .map(|id| {
                self.members(id)?;
                let mut hosts = Bits::default();
                let found = rules.found.borrow();
                let own = rules.by_group.get(&id).into_iter().flatten().filter_map(|index| found.get(*index));
                own.for_each(|found| hosts.union(found));
                Ok((id, hosts))
            })
            .collect()
    }

    fn rule(&self, rule: &WrittenRule) -> Result<Bits> {
        let before = self.read_from(&rule.directory);
        let expr = expr::parse(&rule.text, &|name| self.is_name(name)).map_err(|syntax| {
            self.fault.set(Some(syntax.column));
            usage(syntax.message)
        })?;
        let found = evaluate(&expr, &rule.text, self, false)?;
        self.read_from(&before);
        Ok(found.hosts)
    }

    /// Says where the expression stands that is wrong, and points at the place in it.
    fn placed(&self, rules: &Rules<'_>, rule: &WrittenRule, error: Error) -> Error {
        // Of groups that need one another, the last is the one that is wrong.
        if rules.is_placed.replace(true) {
            return error;
        }
        let fault = self.fault.get().unwrap_or(1);
        let column = rule.column.map_or_else(String::new, |first| format!(":{}", first + fault - 1));
        let what = error.chain();
        let below = if what.contains('\n') { String::new() } else { expr::pointed(&rule.text, fault) };
        let (place, group) = (self.inventory.place(rule.offset), &self.inventory.group(rule.group).name);
        usage(format!("{place}{column}: in the hosts of group \"{group}\": {what}{below}"))
    }
}

impl Rules<'_> {
    /// Goes on with a group.
    ///
    /// # Errors
    ///
    /// When it waits for itself, or too many wait.
    fn enter(&self, inventory: &Inventory, id: usize) -> Result<()> {
        let mut path = self.path.borrow_mut();
        if let Some(first) = path.iter().position(|open| *open == id) {
            let cycle: Vec<usize> = path.iter().skip(first).copied().chain([id]).collect();
            return Err(usage(inventory.describe_cycle(&cycle)));
        }
        if path.len() >= MAX_DEPTH {
            return Err(usage(format!("more than {MAX_DEPTH} groups need one another")));
        }
        path.push(id);
        Ok(())
    }
}
