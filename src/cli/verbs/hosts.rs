use std::collections::HashSet;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use fleet::inventory::{Explanation, Setting, Source, Target};
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
        let text = explanations(&Selection::make(&select, &args.connect)?.explain(&args.connect)?);
        let _ = screen.writer(Stream::Stdout).write_all(text.as_bytes());
        return Ok(exit::of_listing(screen.is_closed()));
    }
    let selection = Selection::make(&args.select, &args.connect)?;
    let text = if args.fold {
        format!("{}\n", hostset::fold(names(&selection.targets)))
    } else if args.count {
        format!("{}\n", selection.targets.len())
    } else if args.groups {
        groups(&selection)
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
    for Explanation { host, settings, ignored, warnings, .. } in hosts {
        text.push_str(&format!("{}\n", host.name));
        let widest_name = settings.iter().map(|setting| setting.name.len()).max().unwrap_or(0);
        let widest_value = settings.iter().map(|setting| setting.value.chars().count()).max().unwrap_or(0).min(40);
        for setting in settings {
            let Setting { name, value, .. } = setting;
            text.push_str(&format!("  {name:widest_name$}  {value:widest_value$}  {}\n", said_by(setting)));
        }
        for Ignored { keyword, origin, why, .. } in ignored {
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            text.push_str(&format!("  not heeded: {keyword} ({origin}){why}\n"));
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
