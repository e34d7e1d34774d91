use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use fleet::inventory::{Explanation, Inventory, Setting, Source, Target};
use fleet::sink::csv_row;
use fleet::ssh_config::Ignored;
use fleet::{Host, Stream, Var, hostset};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::args::{Format, Hosts};
use crate::cli::exit::{self, Refusal};
use crate::cli::plan::{Selection, login, via};
use crate::cli::screen::{Screen, json_line};
use crate::cli::usage;

/// Lists the selected hosts.
pub(crate) fn run(args: &Hosts, screen: &Screen) -> Result<ExitCode, Refusal> {
    if let Some(name) = &args.explain {
        let mut select = args.select.clone();
        select.hosts.push(name.clone());
        let mut selection = Selection::make(&select, &args.connect)?;
        selection.run_commands(None)?;
        let text = explanations(&selection.explain(&args.connect)?);
        let _ = screen.writer(Stream::Stdout).write_all(text.as_bytes());
        return Ok(exit::of_listing(screen.is_closed()));
    }
    let selection = Selection::make(&args.select, &args.connect)?;
    selection.tell(screen);
    let text = if args.fold {
        format!("{}\n", hostset::fold(names(&selection.targets)))
    } else if args.count {
        format!("{}\n", selection.targets.len())
    } else if args.expand || args.separator.is_some() {
        let names: Vec<&str> = names(&selection.targets).collect();
        names.join(args.separator.as_deref().unwrap_or(" ")) + "\n"
    } else if args.groups && args.format == Format::Csv {
        return Err(Refusal::usage("--groups has no csv form: take text or json"));
    } else if args.groups && args.format != Format::Text {
        Tree::of(&selection).objects()
    } else if args.groups {
        Tree::of(&selection).text()
    } else if matches!(args.format, Format::Json | Format::Jsonl) {
        selection.resolve_for_show(&args.connect)?.iter().map(|host| object(host)).collect()
    } else if args.format == Format::Csv {
        rows(&selection.resolve_for_show(&args.connect)?)
    } else if args.verbose {
        table(&selection.resolve_for_show(&args.connect)?)
    } else {
        names(&selection.targets).map(|name| format!("{name}\n")).collect()
    };
    // Whether somebody reads it is told by the code.
    let _ = screen.writer(Stream::Stdout).write_all(text.as_bytes());
    Ok(exit::of_listing(screen.is_closed()))
}

/// Writes each host's settings and where they come from.
fn explanations(hosts: &[Explanation]) -> String {
    let mut text = String::new();
    for Explanation { host, settings, groups, ignored, unheeded, warnings, .. } in hosts {
        text.push_str(&format!("{}\n", host.name));
        let widest_name = settings.iter().map(|setting| setting.name.len()).max().unwrap_or(0);
        let widest_value = settings.iter().map(|setting| setting.value.chars().count()).max().unwrap_or(0).min(40);
        for setting in settings {
            let Setting { name, value, .. } = setting;
            text.push_str(&format!("  {name:widest_name$}  {value:widest_value$}  {}\n", said_by(setting)));
        }
        for group in groups {
            text.push_str(&format!("  in group {group}\n"));
        }
        for Ignored { keyword, origin, why, .. } in ignored {
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            text.push_str(&format!("  not heeded: {keyword} ({origin}){why}\n"));
        }
        for said in unheeded {
            text.push_str(&format!("  not heeded: {said}\n"));
        }
        for line in warnings {
            text.push_str(&format!("  {line}\n"));
        }
    }
    text
}

/// Names the origin of a setting; a flag's variable stands below the flag.
fn said_by(setting: &Setting) -> String {
    let id = match (setting.name, &*setting.value) {
        ("password", "ask") => "ask_pass",
        ("password", _) => "password_from",
        (name, _) => name,
    };
    match &setting.source {
        Source::Flag if !usage::is_flag(std::env::args_os(), id) => {
            format!("environment (FLEET_{})", id.to_uppercase())
        }
        source => source.to_string(),
    }
}

fn names(targets: &[Target]) -> impl Iterator<Item = &str> {
    targets.iter().map(|target| &*target.name)
}

/// The groups that hold selected hosts.
struct Tree<'a> {
    inventory: &'a Inventory,
    /// Each group with the selected hosts that it holds, in file order.
    groups: Vec<(&'a str, Vec<&'a str>)>,
    /// Their places.
    places: HashMap<&'a str, usize>,
    /// The selected hosts that no group holds.
    others: Vec<&'a str>,
}

#[derive(Serialize)]
struct GroupRow<'a> {
    group: &'a str,
    children: Vec<&'a str>,
    hosts: &'a [&'a str],
}

impl<'a> Tree<'a> {
    fn of(selection: &'a Selection) -> Self {
        let inventory = &selection.inventory;
        let selected: HashSet<&str> = names(&selection.targets).collect();
        let members = inventory.groups().map(|group| {
            let mut members = inventory.members(group).unwrap_or_default();
            members.retain(|name| selected.contains(name));
            (group, members)
        });
        let groups: Vec<_> = members.filter(|(_, members)| !members.is_empty()).collect();
        let grouped: HashSet<&str> = groups.iter().flat_map(|(_, members)| members).copied().collect();
        let others = names(&selection.targets).filter(|name| !grouped.contains(name)).collect();
        let places = groups.iter().enumerate().map(|(place, (name, _))| (*name, place)).collect();
        Self { inventory, groups, places, others }
    }

    fn children(&self, group: &str) -> Vec<&'a str> {
        let mut children = self.inventory.children(group).unwrap_or_default();
        children.retain(|child| self.places.contains_key(child));
        children
    }

    fn objects(&self) -> String {
        let row =
            |(group, hosts): &(&str, Vec<&str>)| json_line(&GroupRow { group, children: self.children(group), hosts });
        self.groups.iter().map(row).collect()
    }

    fn text(&self) -> String {
        let is_child: HashSet<&str> = self.groups.iter().flat_map(|(group, _)| self.children(group)).collect();
        let mut text = String::new();
        let mut shown = HashSet::new();
        for (group, _) in self.groups.iter().filter(|(group, _)| !is_child.contains(group)) {
            self.branch(group, 0, &mut shown, &mut text);
        }
        if !self.others.is_empty() {
            text.push_str(&format!("(no group): {}\n", hostset::fold(&self.others)));
        }
        text
    }

    /// Writes a group and what it holds; the children of one that several hold are written once.
    fn branch(&self, group: &'a str, depth: usize, shown: &mut HashSet<&'a str>, text: &mut String) {
        let Some((_, members)) = self.places.get(group).and_then(|place| self.groups.get(*place)) else { return };
        text.push_str(&format!("{:indent$}{group}: {}\n", "", hostset::fold(members), indent = 2 * depth));
        if shown.insert(group) {
            for child in self.children(group) {
                self.branch(child, depth + 1, shown, text);
            }
        }
    }
}

fn table(hosts: &[Arc<Host>]) -> String {
    let rows: Vec<[String; 3]> =
        hosts.iter().map(|host| [host.name.clone(), login(host) + &via(host), host.groups.join(",")]).collect();
    let widest_name = rows.iter().map(|[name, ..]| name.chars().count()).max().unwrap_or(0);
    let widest_login = rows.iter().map(|[_, login, _]| login.chars().count()).max().unwrap_or(0);
    rows.iter()
        .map(|[name, login, groups]| {
            format!("{name:widest_name$}  {login:widest_login$}  {groups}").trim_end().to_owned() + "\n"
        })
        .collect()
}

#[derive(Serialize)]
struct Row<'a> {
    host: &'a str,
    user: &'a str,
    address: &'a str,
    port: u16,
    /// The bastions, the first to be contacted first; left out where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    jump: Vec<&'a str>,
    groups: &'a [String],
    vars: serde_json::Map<String, Value>,
}

/// Writes a header and a row for each host, without the variables.
fn rows(hosts: &[Arc<Host>]) -> String {
    let mut text = csv_row(["host", "user", "address", "port", "jump", "groups"]);
    for host in hosts {
        let Host { name, user, address, port, groups, .. } = &**host;
        text.push_str(&csv_row([name, user, address, &port.to_string(), &jump(host).join(","), &groups.join(",")]));
    }
    text
}

/// Returns the bastions, the first to be contacted first.
fn jump(host: &Host) -> Vec<&str> {
    let mut jump: Vec<&str> = host.bastions().map(|bastion| &*bastion.name).collect();
    jump.reverse();
    jump
}

fn object(host: &Host) -> String {
    json_line(&Row {
        host: &host.name,
        user: &host.user,
        address: &host.address,
        port: host.port,
        jump: jump(host),
        groups: &host.groups,
        vars: host.vars.iter().map(|(name, var)| (name.clone(), value(var))).collect(),
    })
}

fn value(var: &Var) -> Value {
    match var {
        Var::Text(text) => json!(text),
        Var::Integer(number) => json!(number),
        Var::Float(number) => json!(number),
        Var::Bool(value) => json!(value),
        Var::List(items) => items.iter().map(value).collect(),
        Var::Table(items) => {
            items.iter().map(|(key, item)| (key.clone(), value(item))).collect::<serde_json::Map<_, _>>().into()
        }
        other => json!(other.to_string()),
    }
}
