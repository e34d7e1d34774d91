//! One scenario, run against a simulated host and against OpenSSH's sshd: every step must give equal events.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fleet::event::HostReport;
use fleet::op::{Get, Put};
use fleet::pool::RunControl;
use fleet::{Event, EventKind, Exec, Host, Operation, Outputs, Stream};
use fleet_sim::{HostPlan, Mode};
use serde::Deserialize;

use crate::ground::{Ground, pool};
use crate::sshd::Ground as Server;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    name: String,
    exec: Option<String>,
    put: Option<String>,
    get: Option<String>,
    timeout_ms: Option<u64>,
    idle_ms: Option<u64>,
    kill_after_ms: Option<u64>,
    max_output: Option<u64>,
}

/// What is told of a step, without times and places.
#[derive(Debug, Default, PartialEq)]
struct Told {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    phases: Vec<String>,
    notes: Vec<String>,
    end: String,
    files: BTreeMap<String, Vec<u8>>,
}

impl Told {
    fn hear(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Output { stream: Stream::Stdout, bytes, .. } => self.stdout.extend(bytes),
            EventKind::Output { stream: Stream::Stderr, bytes, .. } => self.stderr.extend(bytes),
            EventKind::Phase { phase, .. } => self.phases.push(phase.to_string()),
            EventKind::Note { note, .. } => self.notes.push(format!("{note:?}")),
            EventKind::Finished(report) => self.end = end(report),
            _ => {}
        }
    }
}

fn end(report: &HostReport) -> String {
    let HostReport { facts, attempts, .. } = report;
    let sizes = (facts.files, facts.transferred_bytes);
    format!(
        "{:?} code {:?} signal {:?} killed {:?} phase {:?} attempts {attempts} sizes {sizes:?}: {:?}",
        facts.class,
        facts.exit_code,
        facts.signal,
        facts.killed,
        report.phase(),
        report.reason()
    )
}

/// Runs one operation and returns what was told of it.
fn told<O: Operation>(step: &Step, host: &Arc<Host>, op: O) -> Told {
    let mut told = Told::default();
    let mut sink = |event: &Event| {
        told.hear(event);
        Ok(())
    };
    let millis = |number: Option<u64>| number.map(Duration::from_millis);
    let mut pool = pool().phase_events(true).timeout(millis(step.timeout_ms)).idle_timeout(millis(step.idle_ms));
    if let Some(kill_after) = millis(step.kill_after_ms) {
        pool = pool.kill_after(kill_after);
    }
    if let Some(max) = step.max_output {
        pool = pool.max_output_bytes(max);
    }
    let outputs = Outputs::new().sink(&mut sink);
    pool.build().run_with(&[Arc::clone(host)], op, &RunControl::new(), outputs, |_| {});
    told
}

/// Runs a step on a host whose directory is `work`, with files of this machine in `local`.
fn run(step: &Step, host: &Arc<Host>, work: &Path, local: &Path) -> Told {
    let work = work.to_str().unwrap();
    let there = |path: &String| path.replace("WORK", work);
    let mut told = match (&step.exec, &step.put, &step.get) {
        (Some(command), None, None) => told(step, host, Exec::new(there(command))),
        (None, Some(path), None) => {
            let file = local.join("file");
            std::fs::write(&file, (0..200_000u32).map(|number| (number >> 3) as u8).collect::<Vec<_>>()).unwrap();
            told(step, host, Put::new(&[file], there(path)).unwrap())
        }
        (None, None, Some(path)) => {
            let back = local.join("back");
            let _ = std::fs::remove_dir_all(&back);
            let mut told = told(step, host, Get::new(there(path), &back).unwrap());
            collect(&back.join(&host.name), "", &mut told.files);
            told
        }
        _ => unreachable!("{}: one of exec, put and get", step.name),
    };
    told.end = told.end.replace(work, "WORK");
    if step.max_output.is_some() {
        // How much was on its way when it was too much is the network's.
        told.stdout.truncate(1);
    }
    told
}

fn collect(dir: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            collect(&entry.path(), &format!("{name}/"), files);
        } else if kind.is_symlink() {
            let target = std::fs::read_link(entry.path()).unwrap();
            files.insert(name, target.to_str().unwrap().into());
        } else {
            files.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
}

#[test]
fn the_simulator_and_sshd_give_equal_results() {
    let scenario: Scenario = toml::from_str(include_str!("scenario.toml")).unwrap();
    let simulated = Ground::one(HostPlan::new().mode(Mode::Shell));
    let server = Server::start();
    let (local, near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut hosts = [simulated.first(), server.host()];
    for host in &mut hosts {
        host.name = "host".to_owned();
    }
    let hosts = hosts.map(Arc::new);
    // Whose key nobody knows is told the first time.
    for host in &hosts {
        assert!(pool().build().map(&[Arc::clone(host)], fleet::Ping)[0].is_ok());
    }
    let mut different = Vec::new();
    for step in &scenario.steps {
        let simulated = run(step, &hosts[0], near.path(), local.path());
        let real = run(step, &hosts[1], far.path(), local.path());
        if simulated != real {
            let shorten = |told: &Told| {
                let (stdout, stderr) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
                let short =
                    |text: &str| format!("{} bytes {:?}", text.len(), text.chars().take(60).collect::<String>());
                let files: Vec<_> = told.files.keys().collect();
                let (out, err) = (short(&stdout), short(&stderr));
                format!("{out} {err} {:?} {:?} {files:?}\n    {}", told.phases, told.notes, told.end)
            };
            different.push(format!("{}:\n  sim  {}\n  sshd {}", step.name, shorten(&simulated), shorten(&real)));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(scenario.steps.len() >= 25);
}
