//! `-O`: a file for each host and stream, and the index.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use fleet_sim::{Canned, Fault, HostPlan};
use serde_json::Value;

use crate::fleet::normalised;
use crate::ground::{Ground, line};

use super::{canned, code, stderr};

/// The files of a directory but for the index, by name.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()));
    named.filter(|(name, _)| name != "results.jsonl").collect()
}

/// The lines of the index by host.
fn index(dir: &Path) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(dir.join("results.jsonl")).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| (line.get("host").and_then(Value::as_str).unwrap().to_owned(), line)).collect()
}

/// Has a shell run a command after it has set something up for it.
fn after(setup: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{setup}; exec \"$@\""), "sh"]).arg(command.get_program()).args(command.get_args());
    shell.env_clear().stdin(Stdio::null());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(command.get_current_dir().unwrap());
    shell
}

#[test]
fn each_host_has_its_files_and_a_line_beside_the_form() {
    let out: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let hosts = vec![
        canned("bin", Canned::new(out.clone()).stderr("oops\n", 1).exit(3)),
        canned("still", Canned::default()),
        HostPlan::new().name("far").fault("stall-kex".parse::<Fault>().unwrap()),
        canned("...", Canned::new("hidden\n")),
    ];
    let Ground { fleet, sim: _sim } = Ground::start(hosts);
    let output = fleet.output(&["exec", "-t", "2s", "-f", "4", "-O", "deep/out", "--format", "json", "x"]);
    assert_eq!(code(&output), Some(3), "{}", stderr(&output));
    let dir = fleet.dir().join("deep/out");
    let files = files(&dir);
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["%2E...stderr", "%2E...stdout", "bin.stderr", "bin.stdout", "still.stderr", "still.stdout"]);
    assert!(files["bin.stdout"] == out);
    assert_eq!((&files["bin.stderr"][..], &files["%2E...stdout"][..]), (&b"oops\n"[..], &b"hidden\n"[..]));
    assert!(files["still.stdout"].is_empty());
    let index = index(&dir);
    let told = |host: &str| {
        let line = &index[host];
        format!("{} {} {} {}", line["status"], line["exit_code"], line["stdout_bytes"], line["stdout_file"])
    };
    assert_eq!(told("bin"), r#""failed" 3 300000 "bin.stdout""#);
    assert_eq!(told("far"), r#""unreachable" null 0 null"#);
    assert_eq!(told("..."), r#""ok" 0 7 "%2E...stdout""#);
    // Nothing is missing from the form, and a line of the index is one of its with the files' names.
    let text = String::from_utf8(output.stdout).unwrap();
    let finished =
        text.lines().find(|line| line.contains(r#""finished""#) && line.contains(r#""host":"bin""#)).unwrap();
    let mut finished: Value = serde_json::from_str(finished).unwrap();
    finished["stdout_file"] = "bin.stdout".into();
    finished["stderr_file"] = "bin.stderr".into();
    assert_eq!(finished, index["bin"]);
}

#[test]
fn what_is_said_of_a_directory() {
    let Ground { fleet, sim: _sim } = Ground::named(&["a"]);
    let fleet = fleet
        .file("full/notes", "mine")
        .run(&["exec", "--dry-run", "-O", "out", "x"])
        .run(&["exec", "-O", "out", "echo it; echo careful >&2"])
        .run(&["exec", "-O", "out", "echo again"])
        .run(&["exec", "--dry-run", "-O", "full", "x"])
        .run(&["exec", "-O", "hosts.toml", "x"])
        .run(&["script", "-O", "hosts.toml/out", "-"])
        .run(&["ping", "-O", "out2"]);
    fleet.golden("out_dir");
    let expected = [("a.stdout", "it\n"), ("a.stderr", "careful\n")].map(|(name, text)| (name.to_owned(), text.into()));
    assert_eq!(files(&fleet.dir().join("out")), expected.into());
    assert!(!fleet.dir().join("out2").exists());
}

#[test]
fn output_is_in_its_file_as_it_arrives() {
    let ground = Ground::named(&["a"]);
    let mut run = ground.spawn(&["exec", "-O", "out", "echo begun; while [ ! -e go ]; do sleep 0.05; done; echo done"]);
    assert_eq!(line(&mut run.stdout), "a: begun\n");
    let dir = ground.fleet.dir().join("out");
    assert_eq!(files(&dir)["a.stdout"], b"begun\n");
    assert!(index(&dir).is_empty());
    std::fs::write(ground.sim.host("a").unwrap().home().join("go"), "").unwrap();
    assert_eq!(run.finish().status.code(), Some(0));
    assert_eq!(files(&dir)["a.stdout"], b"begun\ndone\n");
}

#[test]
fn what_is_folded_has_a_file_for_each_host() {
    let Ground { fleet, sim: _sim } = Ground::named(&["a", "b", "c"]);
    let command = "case $HOME in *c) echo odd >&2; exit 3;; esac; echo ok";
    let output = fleet.output(&["exec", "-b", "-O", "out", command]);
    let rule = "---------------\n";
    let blocks = format!("{rule}a,b (2)\n{rule}ok\n{rule}c (1): exit status 3\n{rule}");
    assert_eq!(
        (code(&output), std::str::from_utf8(&output.stdout).unwrap()),
        (Some(1), &*blocks),
        "{}",
        stderr(&output)
    );
    let dir = fleet.dir().join("out");
    let files = files(&dir);
    let texts = ["a.stdout", "b.stdout", "c.stderr"].map(|name| files[name].as_slice());
    assert_eq!(texts, [b"ok\n".as_slice(), b"ok\n", b"odd\n"]);
    assert_eq!(index(&dir)["c"]["exit_code"], 3);
}

#[test]
fn a_script_has_files_too() {
    let Ground { fleet, sim: _sim } = Ground::named(&["a"]);
    let fleet = fleet.file("facts", "echo $1\n").env("FLEET_OUT_DIR", "out");
    let output = fleet.output(&["script", "facts", "x"]);
    assert_eq!((code(&output), &output.stdout[..]), (Some(0), &b"a: x\n"[..]), "{}", stderr(&output));
    assert_eq!(files(&fleet.dir().join("out"))["a.stdout"], b"x\n");
}

#[test]
fn the_run_outlives_its_readers() {
    for form in ["text", "json"] {
        let ground = Ground::named(&["a", "b"]);
        let command = "echo begun; while [ ! -e go ]; do sleep 0.05; done; head -c 2000000 /dev/zero; exit 3";
        let mut run = ground.spawn(&["exec", "-f", "1", "--format", form, "-O", "out", command]);
        line(&mut run.stdout);
        run.stdout = Box::new(BufReader::new(std::io::empty()));
        for host in ["a", "b"] {
            std::fs::write(ground.sim.host(host).unwrap().home().join("go"), "").unwrap();
        }
        let output = run.finish();
        let said = normalised(stderr(&output));
        let expected = "fleet: a: failed: exit status 3\nfleet: b: failed: exit status 3\nfleet: 2 hosts: 0 ok, 2 failed in [time]\n";
        assert_eq!((code(&output), said.as_str()), (Some(1), expected), "{form}");
        let dir = ground.fleet.dir().join("out");
        assert_eq!(index(&dir)["b"]["stdout_bytes"], 2_000_006);
        assert_eq!(files(&dir)["b.stdout"].len(), 2_000_006);
    }
}

/// What is told when there is no room for what `b` wrote: `a` is whole, `b` is not.
fn assert_full(output: &Output, dir: &Path, why: &str) {
    let said = stderr(output);
    assert_eq!(code(output), Some(70), "{said}");
    let full = format!("fleet: an output failed: cannot write out/b.stdout: {why}");
    assert!(said.contains(&full), "{said}");
    assert!(said.contains("fleet: out: the results of 1 host are missing or not whole: b\n"), "{said}");
    assert!(said.contains("fleet: 2 hosts: 2 ok in "), "{said}");
    // The form had all of it.
    let text = std::str::from_utf8(&output.stdout).unwrap();
    assert!(text.starts_with("a: small\n") && text.ends_with("b: end\n"), "{} bytes", text.len());
    let index = index(dir);
    assert_eq!(index.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(files(dir).get("a.stdout").unwrap(), b"small\n");
}

const FILLS_UP: &str =
    "case $HOME in *b) head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end;; *) echo small;; esac";

#[test]
fn a_limit_on_the_size_of_files_is_told_like_a_full_disk() {
    let Ground { fleet, sim: _sim } = Ground::named(&["a", "b"]);
    let command = fleet.command(["exec", "-f", "1", "-O", "out", FILLS_UP]);
    // In blocks of 512 bytes.
    let output = after("ulimit -f 2000", &command).output().unwrap();
    assert_full(&output, &fleet.dir().join("out"), "File too large");
}

#[test]
fn results_that_cannot_be_kept_at_all_end_the_run_in_order() {
    let Ground { fleet, sim: _sim } = Ground::named(&["a"]);
    let command = fleet.command(["exec", "-q", "-O", "out", "echo x; sleep 0.5; echo y"]);
    let mut run = crate::ground::Running::start(after("ulimit -f 0", &command));
    assert_eq!(line(&mut run.stdout), "a: x\n");
    let output = run.finish();
    let said = stderr(&output);
    assert!(said.contains("fleet: stopping: an output failed: no new hosts; 1 still running: a\n"), "{said}");
    assert!(said.ends_with("fleet: out: the results of 1 host are missing or not whole: a\n"), "{said}");
    assert_eq!((code(&output), &output.stdout[..]), (Some(70), &b"a: y\n"[..]));
}

#[test]
fn a_killed_fleet_leaves_whole_lines_and_no_spill_file() {
    let ground = Ground::named(&["done", "fast", "slow"]);
    let spill = ground.fleet.dir().join("spill");
    std::fs::create_dir(&spill).unwrap();
    // What `fast` has read is kept for `slow`: more than is held in memory.
    std::fs::File::create(ground.fleet.dir().join("input")).unwrap().set_len(80 << 20).unwrap();
    let command = "case $HOME in
        *done) head -c 20000 /dev/zero;;
        *fast) cat >/dev/null; echo read; sleep 20;;
        *slow) echo begun; sleep 20;; esac";
    let mut command = ground.fleet.command(["exec", "-O", "out", "--stdin", "input", "-N", command]);
    command.env("FLEET_TMPDIR", &spill);
    let mut run = crate::ground::Running::start(command);
    let dir = ground.fleet.dir().join("out");
    let is_there =
        |host: &str, text: &[u8]| files(&dir).get(&format!("{host}.stdout")).is_some_and(|file| file == text);
    while !(dir.join("results.jsonl").exists() && is_there("fast", b"read\n") && is_there("slow", b"begun\n"))
        || index(&dir).is_empty()
    {
        assert_eq!(run.ended(), None);
        std::thread::yield_now();
    }
    let fds = std::fs::read_dir(format!("/proc/{}/fd", run.id())).unwrap();
    let targets = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    assert_eq!(targets.filter(|target| target.starts_with(&spill)).count(), 1);
    run.signal("KILL");
    assert_eq!(run.finish().status.code(), None);
    let index = index(&dir);
    assert_eq!(index.keys().collect::<Vec<_>>(), ["done"]);
    assert!(is_there("done", &[0; 20_000]));
    assert_eq!(std::fs::read_dir(&spill).unwrap().count(), 0);
}

mod limit {
    use super::*;

    #[test]
    fn output_past_the_limit_ends_the_command_aloud() {
        let ground = Ground::named(&["a"]);
        let fleet = ground
            .fleet
            .file("script", "yes 0123456789012345678901234567890123456789012345678\n")
            .run(&["exec", "--max-output", "10", "-N", "yes"])
            .run(&["exec", "--max-output", "8", "printf 12345678"])
            .run(&["exec", "--max-output", "0.01KiB", "--format", "json", "yes . | head -n 99 >&2; sleep 1000"])
            .run(&["exec", "--max-output", "0", "head -c 100 /dev/zero | wc -c"])
            .run(&["script", "--max-output", "0.3kB", "-q", "-O", "out", "script"])
            .run(&["exec", "--max-output", "many", "true"])
            .run(&["put", "--max-output", "1", "a", "b"]);
        fleet.golden("max_output");
        assert_eq!(files(&fleet.dir().join("out"))["a.stdout"].len(), 300);
        crate::ground::assert_no_processes(&ground.sim);
    }
}
