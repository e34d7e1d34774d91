use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::event::Class;
use crate::sink::fixtures::{event, failed, finished, note, output};

fn started() -> Event {
    event(EventKind::Started { op: "exec".into(), hosts: 1, fanout: 1 })
}

/// Writes events into a new directory.
fn written(events: &[Event]) -> (TempDir, OutDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut out = OutDir::create(dir.path().join("out")).unwrap();
    out.handle(&started()).unwrap();
    for event in events {
        out.handle(event).unwrap();
    }
    (dir, out)
}

/// The files by name, but for the index.
fn files(dir: &TempDir) -> BTreeMap<String, String> {
    let entries = fs::read_dir(dir.path().join("out")).unwrap().map(|entry| entry.unwrap().path());
    let named = entries.map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    });
    named.filter(|(name, _)| name != INDEX).collect()
}

fn index(dir: &TempDir) -> Vec<Value> {
    let text = fs::read_to_string(dir.path().join("out").join(INDEX)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn texts<const N: usize>(expected: [(&str, &str); N]) -> BTreeMap<String, String> {
    expected.map(|(name, text)| (name.to_owned(), text.to_owned())).into()
}

#[test]
fn each_stream_has_a_file_and_each_host_a_line() {
    let lost = Error::new(ErrorKind::Disconnected, "gone").in_phase(crate::error::Phase::Running);
    let refused = Error::new(ErrorKind::Connect, "refused").in_phase(crate::error::Phase::Connect);
    let (dir, out) = written(&[
        output("a", Stream::Stdout, b"one "),
        output("b", Stream::Stderr, b"oops\n"),
        output("a", Stream::Stdout, b"two"),
        finished("a", Class::Ok),
        output("b", Stream::Stdout, b"half"),
        failed("b", lost),
        finished("silent", Class::Failed),
        failed("far", refused),
    ]);
    assert_eq!(
        files(&dir),
        texts([
            ("a.stdout", "one two"),
            ("a.stderr", ""),
            ("b.stdout", "half"),
            ("b.stderr", "oops\n"),
            ("silent.stdout", ""),
            ("silent.stderr", ""),
        ])
    );
    let told: Vec<String> = index(&dir)
        .iter()
        .map(|line| format!("{} {} {} {}", line["host"], line["status"], line["stdout_file"], line["stderr_file"]))
        .collect();
    assert_eq!(
        told,
        [
            r#""a" "ok" "a.stdout" "a.stderr""#,
            r#""b" "lost" "b.stdout" "b.stderr""#,
            r#""silent" "failed" "silent.stdout" "silent.stderr""#,
            r#""far" "unreachable" null null"#,
        ]
    );
    assert!(out.open.is_empty() && out.stems.is_empty());
}

#[test]
fn a_line_of_the_index_is_that_of_the_json_form_and_the_files() {
    let (dir, _) = written(&[finished("a", Class::Ok)]);
    let mut json = Vec::new();
    let mut form = crate::sink::Json::new(&mut json, crate::sink::JsonOptions::default());
    form.handle(&finished("a", Class::Ok)).unwrap();
    form.flush().unwrap();
    drop(form);
    let json = String::from_utf8(json).unwrap();
    let files = r#","stdout_file":"a.stdout","stderr_file":"a.stderr"}"#;
    let expected = json.trim_end().strip_suffix('}').unwrap().to_owned() + files + "\n";
    assert_eq!(fs::read_to_string(dir.path().join("out").join(INDEX)).unwrap(), expected);
}

#[test]
fn many_hosts_at_once_need_few_descriptors() {
    let hosts: Vec<String> = (0..500).map(|number| format!("h{number}")).collect();
    let mut events = Vec::new();
    for round in 0..3 {
        events.extend(hosts.iter().map(|host| output(host, Stream::Stdout, format!("{round}\n").as_bytes())));
    }
    let (dir, out) = written(&events);
    assert_eq!(out.open.len(), 64);
    let files = files(&dir);
    assert_eq!(files.len(), 1000);
    assert!(hosts.iter().all(|host| files[&format!("{host}.stdout")] == "0\n1\n2\n"));
}

#[test]
fn names_that_the_file_system_takes_for_one_are_told_apart() {
    let (dir, mut out) = written(&[]);
    // As a file system would that does not tell capital letters from small ones.
    fs::write(dir.path().join("out/Web.stdout"), "another's").unwrap();
    out.handle(&output("Web", Stream::Stdout, b"x")).unwrap();
    out.handle(&finished("Web", Class::Ok)).unwrap();
    let expected = [("Web.stdout", "another's"), ("Web~2.stdout", "x"), ("Web~2.stderr", "")];
    assert_eq!(files(&dir), texts(expected));
    assert_eq!(index(&dir)[0]["stdout_file"], "Web~2.stdout");
}

#[test]
fn what_is_run_again_begins_anew() {
    let error = Error::new(ErrorKind::Disconnected, "gone");
    let again = note("a", Note::Retrying { attempt: 1, error, delay: Duration::ZERO });
    let (dir, _) = written(&[
        output("a", Stream::Stdout, b"first"),
        output("b", Stream::Stdout, b"stays"),
        again,
        output("a", Stream::Stdout, b"2"),
        finished("a", Class::Ok),
    ]);
    let expected = [("a.stdout", "2"), ("a.stderr", ""), ("b.stdout", "stays"), ("b.stderr", "")];
    assert_eq!(files(&dir), texts(expected));
}

#[test]
fn a_directory_is_new_or_empty_and_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/er/out");
    OutDir::create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    let mut again = OutDir::create(&path).unwrap();
    let mut other = OutDir::create(&path).unwrap();
    again.handle(&started()).unwrap();
    let told = OutDir::create(&path).unwrap_err();
    assert_eq!(told.kind(), ErrorKind::Usage);
    assert!(told.to_string().ends_with("out is not empty: results need a new or an empty directory"), "{told}");
    // Two runs that began at the same moment.
    assert!(other.handle(&started()).unwrap_err().to_string().contains("results.jsonl: File exists"));
    fs::write(dir.path().join("file"), "").unwrap();
    let told = OutDir::create(dir.path().join("file")).unwrap_err().chain();
    assert!(told.contains("cannot write to ") && told.contains("Not a directory"), "{told}");
}

#[test]
fn a_file_that_is_gone_is_named() {
    let (dir, mut out) = written(&[output("a", Stream::Stdout, b"x")]);
    out.open.close("a.stdout").unwrap();
    fs::remove_file(dir.path().join("out/a.stdout")).unwrap();
    let error = out.handle(&output("a", Stream::Stdout, b"y")).unwrap_err();
    assert!(error.to_string().contains("out/a.stdout: No such file or directory"), "{error}");
    let EventKind::Finished(report) = finished("a", Class::Ok).kind else { panic!("no report") };
    assert!(!out.is_complete(&report));
}
