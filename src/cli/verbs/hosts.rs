use std::collections::HashSet;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use fleet::inventory::Target;
use fleet::{Host, Stream, Var, hostset};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::args::{Format, Hosts};
use crate::cli::exit::{self, Refusal};
use crate::cli::plan::{Selection, login};
use crate::cli::screen::{Screen, json_line};

/// Lists the selected hosts.
pub(crate) fn run(args: &Hosts, screen: &Screen) -> Result<ExitCode, Refusal> {
    let selection = Selection::make(&args.select)?;
    let text = if args.fold {
        format!("{}\n", hostset::fold(names(&selection.targets)))
    } else if args.count {
        format!("{}\n", selection.targets.len())
    } else if args.groups {
        groups(&selection)
    } else if args.format == Format::Json {
        selection.resolve_for_show(None)?.iter().map(|host| object(host)).collect()
    } else if args.verbose {
        table(&selection.resolve_for_show(None)?)
    } else {
        names(&selection.targets).map(|name| format!("{name}\n")).collect()
    };
    // Whether somebody reads it is told by the code.
    let _ = screen.writer(Stream::Stdout).write_all(text.as_bytes());
    Ok(exit::of_listing(screen.is_closed()))
}

fn names(targets: &[Target]) -> impl Iterator<Item = &str> {
    targets.iter().map(|target| &*target.name)
}

/// Writes each group that holds a selected host, with those hosts.
fn groups(selection: &Selection) -> String {
    let selected: HashSet<&str> = names(&selection.targets).collect();
    let mut text = String::new();
    for group in selection.inventory.groups() {
        let mut members = selection.inventory.members(group).unwrap_or_default();
        members.retain(|name| selected.contains(name));
        if !members.is_empty() {
            text.push_str(&format!("{group}: {}\n", hostset::fold(members)));
        }
    }
    text
}

fn table(hosts: &[Arc<Host>]) -> String {
    let rows: Vec<[String; 3]> =
        hosts.iter().map(|host| [host.name.clone(), login(host), host.groups.join(",")]).collect();
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
    groups: &'a [String],
    vars: serde_json::Map<String, Value>,
}

fn object(host: &Host) -> String {
    json_line(&Row {
        host: &host.name,
        user: &host.user,
        address: &host.address,
        port: host.port,
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
