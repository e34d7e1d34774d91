//! Selecting hosts: what may be asked for, and what comes out.

use std::collections::HashMap;
use std::sync::Arc;

use super::Inventory;
use super::expr::{self, Expr, Op, Operand};
use super::part::{Pick, Slice};
use super::set::Bits;
use super::term::{Address, Choice, Evaluator, Login};
use crate::error::{Error, ErrorKind, Result};

/// What to select: the flags `-w`, `-g`, `-a` and `-x`. With none of them, every host of the inventory.
///
/// A selection is made of terms:
///
/// | term | stands for |
/// |---|---|
/// | `web1`, `web[01-20]` | hosts of the inventory, by name |
/// | `root@web1`, `web1:2222` | the same, with another user or port |
/// | `root@h`, `h:22`, `10.0.0.5`, `[::1]:22` | an address that the inventory does not have; without an inventory any name is one |
/// | `@web`, `@rack[1-3]`, `@w*` | the hosts of a group and its children; of several groups |
/// | `web*`, `db?` | hosts whose whole name matches |
/// | `~/^db\d/` | hosts in whose name the regular expression is found; `\/` is a slash |
/// | `@*`, `@all` | every host of the inventory |
/// | `vars.role=web*` | hosts with such a variable, their own, of their nearest group or of the defaults; `vars.a.b=` looks into a table |
/// | `@file:PATH`, `-` | what the lines of a file, or of [standard input](Names::stdin), say; `#` begins a comment |
///
/// They are joined as in ClusterShell, from left to right and with parentheses: `a,b` both, `a!b` without, `a&b` in both,
/// `a^b` in one of them. Where `:&`, `:!`, `,&` or `,!` occurs, the whole is read as Ansible's instead: `web:&prod:!db` takes
/// unions (`:` or `,`) first, then intersections, then exclusions; a bare group name and `all` stand for their hosts; without
/// a union it starts from every host. A `:DIGITS` at the end of a term is a port, unless a host or a group has that name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Selector {
    /// Selections (`-w`), united; the grammar is that of DESIGN section 6.
    pub hosts: Vec<String>,
    /// Group names, globs or hostsets of names (`-g`), united with the hosts.
    pub groups: Vec<String>,
    /// Every host of the inventory (`-a`); excludes the two above.
    pub all: bool,
    /// Selections to leave out (`-x`).
    pub exclude: Vec<String>,
    /// The part of what is selected that is kept (`--slice`), by place.
    pub slice: Option<Slice>,
    /// How many are picked at random from what is left (`--pick`).
    pub pick: Option<Pick>,
}

/// One host that was selected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Target {
    /// The inventory name, or an address as it was written; unique in a selection.
    pub name: Arc<str>,
    /// The address, without user, port and brackets, of a target that the inventory does not have.
    pub address: Option<Arc<str>>,
    /// The user that was written before it: `root@web01`.
    pub user: Option<Arc<str>>,
    /// The port that was written after it: `web01:2222`.
    pub port: Option<u16>,
}

impl Target {
    /// Makes the target of an inventory host.
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), address: None, user: None, port: None }
    }
}

/// Names that the inventory does not own, such as `@run:last:failed`.
pub trait Names {
    /// Returns the names that stand for `@REFERENCE`, or `None` if the reference is not one of these.
    ///
    /// Asked only for references that no group has. Each name is then taken as if it were written in the selection.
    fn names(&self, reference: &str) -> Option<Result<Vec<String>>>;

    /// Tells whether there is a host of that name outside of the inventory, such as a literal `Host` of ssh_config.
    ///
    /// Asked only for names that no host of the inventory has. By default there is none.
    fn is_host(&self, _name: &str) -> bool {
        false
    }

    /// Returns the text of standard input, which the term `-` stands for; `None` if it is not to be read.
    ///
    /// Asked for each such term: whoever reads it keeps it. By default it is not read.
    fn stdin(&self) -> Option<Result<String>> {
        None
    }
}

/// Knows no names.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNames;

impl Names for NoNames {
    fn names(&self, _: &str) -> Option<Result<Vec<String>>> {
        None
    }
}

impl Inventory {
    /// Selects hosts: each once, in file order, addresses that the inventory does not have behind, in the order given.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Usage`]: a selection that cannot be read (with the column, and a caret on a third line), a name, group or
    /// pattern that matches nothing (patterns may, where hosts are excluded), or nothing left.
    pub fn select(&self, selector: &Selector) -> Result<Vec<Target>> {
        self.select_with(selector, &NoNames)
    }

    /// Selects hosts, with names that the inventory does not own.
    ///
    /// # Errors
    ///
    /// As [`select`](Self::select), and what the names' owner gives.
    pub fn select_with(&self, selector: &Selector, names: &dyn Names) -> Result<Vec<Target>> {
        let is_everything = selector.hosts.is_empty() && selector.groups.is_empty();
        if selector.all && !is_everything {
            return Err(usage("-a selects every host: leave it out, or -w and -g"));
        }
        if is_everything && self.hosts.is_empty() {
            return Err(usage(match self.source() {
                Some(path) => format!("inventory {} names no hosts", path.display()),
                None => "no inventory and no hosts: name hosts with -w or an inventory with -i".to_owned(),
            }));
        }
        let evaluator = Evaluator::new(self, names);
        let mut choice = Choice::default();
        if is_everything {
            choice.hosts = Bits::full(self.hosts.len());
        }
        for text in &selector.hosts {
            choice.unite(self.evaluate(text, &evaluator, false)?)?;
        }
        for text in &selector.groups {
            choice.hosts.union(&evaluator.groups(text)?);
        }
        for text in &selector.exclude {
            choice.subtract(&self.evaluate(text, &evaluator, true)?);
        }
        match choice.is_empty() {
            true => Err(usage(format!("nothing is selected by {}", describe(selector)))),
            false => self.part(selector, self.targets(choice)),
        }
    }

    /// Keeps the part that is asked for.
    fn part(&self, selector: &Selector, mut targets: Vec<Target>) -> Result<Vec<Target>> {
        let count = targets.len();
        if let Some(slice) = &selector.slice {
            slice.cut(&mut targets);
            if targets.is_empty() {
                return Err(usage(format!("--slice {slice} leaves none of {count} hosts")));
            }
        }
        if let Some(pick) = &selector.pick {
            pick.draw(&mut targets);
        }
        Ok(targets)
    }

    fn evaluate(&self, text: &str, evaluator: &Evaluator<'_>, excluding: bool) -> Result<Choice> {
        if text.trim().is_empty() {
            return Err(usage("a selection is empty: expected a host, a group or a pattern"));
        }
        let expr = expr::parse(text, &|name| evaluator.is_name(name)).map_err(|syntax| expr::error(text, &syntax))?;
        evaluate(&expr, text, evaluator, excluding)
    }

    fn targets(&self, choice: Choice) -> Vec<Target> {
        let Choice { hosts, logins, addresses } = choice;
        let listed = hosts.iter().filter_map(|id| {
            let name = self.hosts.get(id)?.name.clone();
            let Login { user, port } = logins.get(&id).map(|(login, _)| login.clone()).unwrap_or_default();
            Some(Target { name, address: None, user, port })
        });
        let written = addresses.list.into_iter().map(|Address { name, host, login: Login { user, port } }| Target {
            name,
            address: Some(host),
            user,
            port,
        });
        listed.chain(written).collect()
    }
}

pub(super) fn evaluate(expr: &Expr, text: &str, evaluator: &Evaluator<'_>, excluding: bool) -> Result<Choice> {
    let mut choice = Choice::default();
    for (op, operand) in &expr.steps {
        let excluding = excluding || *op == Op::Difference;
        let other = match operand {
            Operand::All => Choice { hosts: evaluator.all(), ..Choice::default() },
            Operand::Parens(inner) => evaluate(inner, text, evaluator, excluding)?,
            Operand::Term(term) => {
                let found = evaluator.term(term, text, expr.is_ansible, excluding);
                found.inspect_err(|_| evaluator.blame(term.column))?
            }
        };
        match op {
            Op::Union => choice.unite(other)?,
            Op::Difference => choice.subtract(&other),
            Op::Intersection => choice.intersect(&other),
            Op::Xor => choice.toggle(other)?,
        }
    }
    Ok(choice)
}

fn describe(selector: &Selector) -> String {
    let mut words = Vec::new();
    if selector.hosts.is_empty() && selector.groups.is_empty() {
        words.push("-a".to_owned());
    }
    for (flag, texts) in [("-w", &selector.hosts), ("-g", &selector.groups), ("-x", &selector.exclude)] {
        words.extend(texts.iter().map(|text| format!("{flag} '{text}'")));
    }
    words.join(" ")
}

/// The users and ports written beside inventory hosts, and the words that hold them, by the hosts' places.
pub(super) type Logins = HashMap<usize, (Login, Arc<str>)>;

fn usage(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, what)
}
