//! The forms for programs, read back by readers that are not fleet's: validators of their schemas, and a reader of CSV.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::process::{Output, Stdio};

use base64::Engine as _;
use fleet_sim::{Canned, Fault, HostPlan};
use serde_json::Value;

use super::{canned, code, stderr};
use crate::ground::Ground;

fn schema(name: &str) -> Value {
    let path = format!("{}/schema/fleet-{name}-1.schema.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Reads lines, each of which must be as the schema says.
fn valid_lines(output: &Output, schema: &Value) -> Vec<Value> {
    let validator = jsonschema::draft202012::new(schema).unwrap();
    let text = std::str::from_utf8(&output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!lines.is_empty(), "{}", stderr(output));
    for line in &lines {
        let faults: Vec<String> = validator.iter_errors(line).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{line}\n{}", faults.join("\n"));
    }
    lines
}

fn rows(output: &Output) -> Vec<HashMap<String, String>> {
    csv::Reader::from_reader(&*output.stdout).deserialize().map(Result::unwrap).collect()
}

fn from_base64(text: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[test]
fn what_every_verb_writes_is_as_the_schemas_say() {
    let hosts = vec![
        HostPlan::new().name("a"),
        HostPlan::new().name("shaky").fault(Fault::CutBeforeLogin { times: 1 }),
        HostPlan::new().name("dead").fault(Fault::GarbageBanner),
    ];
    let Ground { fleet, sim: _sim } = Ground::unknown(hosts);
    let fleet = fleet.file("motd", "welcome\n").file("do.sh", "echo $1\n");
    let (json, jsonl) = (schema("json"), schema("jsonl"));
    let mut events = BTreeSet::new();
    for verb in [
        &[
            "exec",
            "-vv",
            "--rollout",
            "1",
            "--select-regex",
            r"(?<a>.)|(?-u:(?<b>\xff))",
            "printf 'x\\n\\377'; echo e >&2",
        ][..],
        &["exec", "-w", "a", "--select-regex", "(?<a>nothing)", "exit 3"],
        &["exec", "-w", "a,dead", "-f", "1", "--retries", "0", "--order", "name", "--fail-fast", "false"],
        &["script", "-w", "a", "do.sh", "1"],
        &["put", "-w", "a", "motd", "motd"],
        &["get", "-w", "a", "motd", "fetched"],
        &["ping", "-w", "a", "-v"],
        &["trust", "--yes", "-w", "a"],
        &["exec", "--dry-run", "df"],
    ] {
        let run = |format| fleet.output(&[&verb[..1], &["--format", format], &verb[1..]].concat());
        for line in valid_lines(&run("json"), &json) {
            events.insert(line["event"].as_str().unwrap().to_owned());
        }
        if verb[0] != "trust" && verb[1] != "--dry-run" {
            let results = valid_lines(&run("jsonl"), &jsonl);
            assert!(results.iter().all(|result| result["op"] == verb[0]), "{results:?}");
            assert_eq!(rows(&run("csv")).is_empty(), verb.contains(&"(?<a>nothing)"), "{verb:?}");
        }
    }
    let told: Vec<&str> = events.iter().map(String::as_str).collect();
    for event in ["finished", "host_key", "no_record", "output", "phase", "planned", "record", "retrying"] {
        assert!(told.contains(&event), "no {event} in {told:?}");
    }
    for event in ["started", "stopping", "summary", "transfer", "wave"] {
        assert!(told.contains(&event), "no {event} in {told:?}");
    }
    for format in ["json", "jsonl"] {
        assert_eq!(valid_lines(&fleet.output(&["hosts", "--format", format]), &schema("hosts")).len(), 3);
    }
}

#[test]
fn outputs_are_restored_exactly_from_lines_and_rows() {
    // Longer than what is read at a time, with characters across the borders; text with a NUL; bytes.
    let long = "€\"\\,\n\u{1b}[31m\u{9b}\r\u{202e}😀".repeat(40_000).into_bytes();
    let bytes = b"\xed\xa0\x80\0\xff half \xe2\x82".to_vec();
    let host = canned("bin", Canned::new(long.clone()).stderr(bytes.clone(), 1));
    let other = canned("nul", Canned::new("a\0b"));
    let Ground { fleet, sim: _sim } = Ground::start(vec![host, other]);
    let lines =
        valid_lines(&fleet.output(&["exec", "--format", "jsonl", "--order", "name", "-f", "1", "x"]), &schema("jsonl"));
    assert!(lines[0]["stdout"].as_str().unwrap().as_bytes() == long);
    assert_eq!(from_base64(lines[0]["stderr_base64"].as_str().unwrap()), bytes);
    assert_eq!(lines[0]["stdout_bytes"], long.len());
    assert_eq!(lines[1]["stdout"], "a\0b");
    let rows = rows(&fleet.output(&["exec", "--format", "csv", "--order", "name", "-f", "1", "x"]));
    assert!(rows[0]["stdout"].as_bytes() == long && rows[0]["stdout_encoding"] == "utf-8");
    assert_eq!((from_base64(&rows[0]["stderr"]), &*rows[0]["stderr_encoding"]), (bytes, "base64"));
    assert_eq!((from_base64(&rows[1]["stdout"]), &*rows[1]["stdout_encoding"]), (b"a\0b".to_vec(), "base64"));
}

#[test]
fn a_full_disk_is_said_in_every_form() {
    let Ground { fleet, sim: _sim } = Ground::named(&["a", "b"]);
    for form in [&["--format", "jsonl"][..], &["--format", "csv"], &["--select-regex", "(?<x>x)"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = fleet.command([&["exec", "-f", "1"], form, &["echo x"]].concat());
        let output = command.stdout(full).stderr(Stdio::piped()).output().unwrap();
        let said = stderr(&output);
        assert_eq!(code(&output), Some(70), "{said}");
        let why: Vec<&str> = said.lines().filter(|line| line.starts_with("fleet: an output failed: ")).collect();
        assert_eq!(why.len(), 1, "{said}");
        assert!(why[0].to_lowercase().contains("no space left on device"), "{said}");
    }
}

#[test]
fn nobody_reading_ends_every_form_silently() {
    let ground = Ground::named(&["a", "b"]);
    for form in [&["--format", "jsonl"][..], &["--format", "csv"], &["--select-regex", "(?<x>x)"]] {
        let mut run = ground.spawn(&[&["exec", "-f", "1", "--order", "name"], form, &["echo x"]].concat());
        run.stdout = Box::new(std::io::empty());
        let output = run.finish();
        assert_eq!((code(&output), stderr(&output)), (Some(141), ""), "{form:?}");
    }
}

#[test]
fn a_match_may_lie_across_pieces_and_lines_of_output() {
    // A piece has at most 32 KiB.
    let text = ["x".repeat(32 * 1024 - 8), "begin\nmiddle\nend\n".to_owned(), "y".repeat(100_000)].concat();
    let Ground { fleet, sim: _sim } = Ground::start(vec![canned("a", Canned::new(text))]);
    let pattern = r"x+begin\n(?<what>\w+)\nend\n(?<rest>y+)";
    let lines =
        valid_lines(&fleet.output(&["exec", "--format", "jsonl", "--select-regex", pattern, "x"]), &schema("jsonl"));
    assert_eq!(lines[0]["records"][0]["what"], "middle");
    assert_eq!(lines[0]["records"][0]["rest"].as_str().unwrap().len(), 100_000);
    assert_eq!(lines[0]["records"].as_array().unwrap().len(), 1);
}
