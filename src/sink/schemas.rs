//! The forms for programs against their schemas: every event there is, and every event of the schema.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value};

use super::fixtures::{event, exited, failed, finished_with, host, note, output, run_finished};
use super::{Json, JsonLines, JsonLinesOptions, JsonOptions};
use crate::budget::Stop;
use crate::error::{Error, ErrorKind, Phase};
use crate::event::{Class, Event, EventKind, Facts, HostKeyAction, Note, Sink, StopReason, Stream};
use crate::record::Pattern;

fn schema(name: &str) -> Value {
    let path = format!("{}/schema/fleet-{name}-1.schema.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn lines(out: &[u8]) -> Vec<Value> {
    std::str::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn assert_valid(schema: &Value, lines: &[Value]) {
    let validator = jsonschema::draft202012::new(schema).unwrap();
    for line in lines {
        let faults: Vec<String> = validator.iter_errors(line).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{line}\n{}", faults.join("\n"));
    }
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// One event of every kind, note and way to end.
fn every_event() -> Vec<Event> {
    let pattern = Pattern::new("(?<text>a)|(?-u:(?<bytes>\\xff))").unwrap();
    let records = pattern.records(b"a\xff").map(|record| event(EventKind::Record { host: host("a"), record }));
    let mut events = vec![
        event(EventKind::Started { op: "exec".into(), hosts: 2, fanout: 2 }),
        event(EventKind::Phase { host: host("a"), phase: Phase::KeyExchange }),
        note("a", Note::Banner("hi\n".into())),
        note("a", Note::Retrying { attempt: 1, error: Error::new(ErrorKind::Protocol, "x"), delay: Duration::ZERO }),
        note("a", Note::Unguarded("x".into())),
        note("a", Note::Warning("x".into())),
        note("a", Note::Detail("x".into())),
        note("a", Note::NoRecord),
        event(EventKind::Warning("x".into())),
        output("a", Stream::Stdout, b"text\n\xff"),
        event(EventKind::Transfer { host: host("a"), path: "x".into(), done: 1, total: 2 }),
        event(EventKind::Wave { number: 1, begins: 1, reaches: 1 }),
    ];
    events.extend(records);
    use HostKeyAction::{Accepted, Changed, Known, Recorded, Replaced, Unknown};
    for action in [Recorded, Accepted, Replaced, Changed, Known, Unknown] {
        let (key_type, fingerprint) = ("ssh-ed25519".into(), "SHA256:x".into());
        events.push(note("a", Note::HostKey { action, key_type, fingerprint }));
    }
    use StopReason::{Breaker, Deadline, Hangup, Interrupt, Output, Rollout, Terminate, Threshold};
    for reason in [Threshold, Rollout, Breaker, Deadline, Interrupt, Terminate, Hangup, Output] {
        for stop in [Stop::Drain, Stop::Abort] {
            events.push(event(EventKind::Stopping { stop, reason, running: vec![host("a")] }));
        }
    }
    for class in Class::ALL {
        for killed in [None, Some("killed"), Some("already gone"), Some("not confirmed")] {
            let mut facts = Facts::new(class);
            (facts.killed, facts.signal, facts.phase) = (killed, Some("TERM".into()), Some(Phase::Running));
            (facts.files, facts.transferred_bytes) = (1, 1);
            events.push(finished_with("a", facts, None));
        }
    }
    events.push(exited("a", 3));
    events.push(failed("a", Error::new(ErrorKind::Timeout, "x").in_phase(Phase::Login)));
    events.push(run_finished(&Class::ALL));
    events
}

#[test]
fn every_event_is_as_its_schema_says_and_every_event_of_the_schema_occurs() {
    let mut out = Vec::new();
    let mut json = Json::new(&mut out, JsonOptions { phases: true, terminal: false });
    every_event().iter().for_each(|event| json.handle(event).unwrap());
    drop(json);
    let lines = lines(&out);
    let schema = schema("json");
    assert_valid(&schema, &lines);

    // What a dry run writes is no event of a run: the command line's tests have it.
    let mut declared = keys(&schema["$defs"]);
    assert!(declared.remove("value") && declared.remove("planned"));
    let told: BTreeSet<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(told, declared);
    for name in declared {
        let fields: BTreeSet<&str> = lines.iter().filter(|line| line["event"] == name).flat_map(keys).collect();
        assert_eq!(fields, keys(&schema["$defs"][name]["properties"]), "{name}");
    }
}

#[test]
fn every_result_is_as_its_schema_says() {
    let mut out = Vec::new();
    let mut json = JsonLines::new(&mut out, JsonLinesOptions { records: true, ..JsonLinesOptions::default() });
    every_event().iter().for_each(|event| json.handle(event).unwrap());
    json.handle(&output("a", Stream::Stderr, b"\xff")).unwrap();
    json.handle(&exited("a", 0)).unwrap();
    json.handle(&run_finished(&[])).unwrap();
    drop(json);
    let lines = lines(&out);
    let schema = schema("jsonl");
    assert_valid(&schema, &lines);
    let fields: BTreeSet<&str> = lines.iter().flat_map(keys).collect();
    assert_eq!(fields, keys(&schema["properties"]));
}

#[test]
fn a_schema_refuses_what_is_wrong() {
    let schema = schema("json");
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let output = r#"{"event":"output","time":"2026-01-01T00:00:00Z","run":"r","host":"a","stream":"stdout","text":"x","eol":true}"#;
    let right: Map<String, Value> = serde_json::from_str(output).unwrap();
    assert!(validator.is_valid(&Value::Object(right.clone())));
    for (name, value) in [("stream", "stdin"), ("event", "outptu"), ("base64", "eA=="), ("eol", "yes")] {
        let mut wrong = right.clone();
        wrong.insert(name.to_owned(), value.into());
        assert!(!validator.is_valid(&Value::Object(wrong)), "{name}");
    }
}

#[test]
fn every_field_is_documented() {
    let path = format!("{}/docs/machine-forms.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let (json, jsonl, hosts) = (schema("json"), schema("jsonl"), schema("hosts"));
    let mut names = keys(&jsonl["properties"]);
    names.extend(keys(&hosts["properties"]));
    names.extend(super::csv::COLUMNS);
    for (name, event) in json["$defs"].as_object().unwrap().iter().filter(|(name, _)| *name != "value") {
        names.insert(name);
        names.extend(keys(&event["properties"]));
    }
    let missing: Vec<&str> = names.into_iter().filter(|name| !text.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "not in docs/machine-forms.md: {missing:?}");
}
