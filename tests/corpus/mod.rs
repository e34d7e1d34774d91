//! Selections side by side with the programs whose grammar they are: ClusterShell's nodeset and Ansible.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fleet::hostset;
use fleet::inventory::{Inventory, Selector};
use serde_json::Value;

/// An expression of a corpus.
#[derive(Debug, Default)]
struct Case {
    section: String,
    text: String,
    /// What fleet says where it differs on purpose.
    differs: Option<String>,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// Reads a corpus: `#` comments, `##` sections, `!` a reason and `=` an answer before a case that differs.
fn corpus(name: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(directory().join(name)).unwrap();
    let mut cases = Vec::new();
    let (mut section, mut reason, mut differs) = (String::new(), None, None);
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix("## ") {
            section = name.to_owned();
        } else if let Some(why) = line.strip_prefix("! ") {
            reason = Some(why);
        } else if let Some(answer) = line.strip_prefix("= ") {
            assert!(reason.take().is_some(), "a difference without a reason: {line}");
            differs = Some(answer.to_owned());
        } else if !line.starts_with("# ") {
            let text = if line == "(empty)" { String::new() } else { line.to_owned() };
            cases.push(Case { section: section.clone(), text, differs: differs.take() });
        }
    }
    cases
}

/// What fleet selects, or why it refuses; nothing is selected by an expression that leaves nothing.
fn select(inventory: &Inventory, text: &str) -> Result<Vec<String>, String> {
    let mut selector = Selector::default();
    selector.hosts.push(text.to_owned());
    match inventory.select(&selector) {
        Ok(targets) => Ok(targets.iter().map(|target| target.name.to_string()).collect()),
        Err(error) if error.to_string().starts_with("nothing is selected") => Ok(Vec::new()),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs a script of the corpus with Debian's Python on these lines, one answer a line.
fn ask(script: &str, package: &str, lines: &[String], setup: impl FnOnce(&mut Command)) -> Vec<Value> {
    let mut command = Command::new("/usr/bin/python3");
    command.arg(directory().join(script)).stdin(Stdio::piped()).stdout(Stdio::piped());
    setup(&mut command);
    let mut child = command.spawn().expect("python3 is needed: apt-get install python3");
    child.stdin.take().unwrap().write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script} failed: is it installed? apt-get install {package}");
    let text = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), lines.len());
    answers
}

/// Compares fleet's answers with the other program's; a listed difference has to be one, and as it is listed.
fn compare(case: &Case, ours: &Result<String, String>, theirs: &Result<String, String>, faults: &mut Vec<String>) {
    let shown = |answer: &Result<String, String>| answer.clone().unwrap_or_else(|_| "refused".to_owned());
    let (ours_shown, theirs_shown) = (shown(ours), shown(theirs));
    match &case.differs {
        None if ours_shown != theirs_shown => {
            faults.push(format!("{:?}: fleet {ours:?}, the other {theirs:?}", case.text));
        }
        Some(_) if ours_shown == theirs_shown => {
            faults.push(format!("{:?} is listed as different, and both say {ours_shown:?}", case.text));
        }
        Some(listed) if *listed != ours_shown => {
            faults.push(format!("{:?}: fleet {ours:?}, listed {listed:?}", case.text));
        }
        _ => {}
    }
}

const GROUPS: &str = r#"
[groups]
web = { hosts = ["web[01-12]"] }
db = { hosts = ["db[1-3]"] }
prod = { children = ["web", "db"] }
gpu = { hosts = ["web[04-06]", "db1"] }
rack1 = { hosts = ["web[01-04]", "db1"] }
rack2 = { hosts = ["web[05-08]", "db2"] }
rack3 = { hosts = ["web[09-12]", "db3"] }
"#;

#[test]
fn nodeset_agrees() {
    let cases = corpus("nodeset.txt");
    assert!(cases.len() >= 200, "{} cases", cases.len());
    let inventory = Inventory::parse(GROUPS, "hosts.toml".as_ref()).unwrap();
    let config = tempfile::tempdir().unwrap();
    let mut groups = String::new();
    for group in inventory.groups() {
        groups.push_str(&format!("{group}: {}\n", hostset::fold(inventory.members(group).unwrap())));
    }
    groups.push_str(&format!("all: {}\n", hostset::fold(inventory.hosts())));
    std::fs::write(config.path().join("groups"), groups).unwrap();
    let upcall = "[Main]\ndefault: local\n[local]\nmap: sed -n 's/^$GROUP:\\(.*\\)/\\1/p' $CFGDIR/groups\n\
                  all: sed -n 's/^all:\\(.*\\)/\\1/p' $CFGDIR/groups\nlist: sed -n 's/^\\([0-9A-Za-z_-]*\\):.*/\\1/p' $CFGDIR/groups\n";
    std::fs::write(config.path().join("groups.conf"), upcall).unwrap();

    let lines: Vec<String> = cases.iter().map(|case| case.text.clone()).collect();
    let answers = ask("nodeset.py", "clustershell", &lines, |command| {
        command.env("CLUSTERSHELL_CFGDIR", config.path()).env("HOME", config.path());
    });
    let empty = Inventory::empty();
    let mut faults = Vec::new();
    for (case, answer) in cases.iter().zip(&answers) {
        let ours = select(if case.section == "groups" { &inventory } else { &empty }, &case.text);
        let text = |key: &str| answer[key].as_str().unwrap().to_owned();
        let theirs = if answer["code"] == 0 { Ok(text("folded")) } else { Err("refused".to_owned()) };
        compare(case, &ours.clone().map(hostset::fold), &theirs, &mut faults);
        if let (Ok(ours), Ok(_), None) = (&ours, &theirs, &case.differs) {
            let expanded = text("expanded");
            let theirs: BTreeSet<&str> = expanded.lines().collect();
            let once: BTreeSet<&str> = ours.iter().map(String::as_str).collect();
            if once != theirs || once.len() != ours.len() {
                faults.push(format!("{:?} expands to {ours:?}, nodeset says {theirs:?}", case.text));
            }
        }
    }
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), cases.len(), faults.join("\n"));
}

#[test]
fn ansible_agrees() {
    let cases = corpus("ansible.txt");
    assert!(cases.len() >= 50, "{} cases", cases.len());
    let path = directory().join("inventory.ini");
    let inventory = Inventory::load(&path).unwrap();
    // Ansible's regular expressions have no end.
    let written = |text: &str| {
        text.split([':', ',']).map(|part| part.trim_end_matches('/').replace("~/", "~")).collect::<Vec<_>>()
    };
    let lines: Vec<String> = cases
        .iter()
        .map(|case| match case.text.contains("~/") {
            true => written(&case.text).join(if case.text.contains(':') { ":" } else { "," }),
            false => case.text.clone(),
        })
        .collect();
    let answers = ask("list_hosts.py", "ansible-core", &lines, |command| {
        command.arg(&path).env("ANSIBLE_LOCALHOST_WARNING", "False");
    });
    let mut faults = Vec::new();
    for (case, answer) in cases.iter().zip(&answers) {
        let sorted = |mut names: Vec<String>| match names.is_empty() {
            true => Err("nobody".to_owned()),
            false => {
                names.sort();
                Ok(names.join(" "))
            }
        };
        let ours = select(&inventory, &case.text).and_then(sorted);
        let hosts = answer["hosts"].as_array().unwrap().iter().map(|host| host.as_str().unwrap().to_owned());
        compare(case, &ours, &sorted(hosts.collect()), &mut faults);
    }
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), cases.len(), faults.join("\n"));
}

#[test]
fn what_ansible_makes_of_an_inventory_is_what_fleet_makes_of_it() {
    let path = directory().join("inventory.ini");
    let inventory = Inventory::load(&path).unwrap();
    let groups: Vec<&str> = inventory.groups().collect();
    let lines: Vec<String> = groups.iter().map(ToString::to_string).collect();
    let answers = ask("list_hosts.py", "ansible-core", &lines, |command| {
        command.arg(&path);
    });
    for (group, answer) in groups.iter().zip(&answers) {
        let theirs: BTreeSet<&str> =
            answer["hosts"].as_array().unwrap().iter().map(|host| host.as_str().unwrap()).collect();
        let ours: BTreeSet<&str> = inventory.members(group).unwrap().into_iter().collect();
        assert_eq!(ours, theirs, "{group}");
    }
    assert_eq!(groups.len(), 8);
}
