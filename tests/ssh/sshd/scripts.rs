//! Scripts on OpenSSH's sshd.

use fleet::Class;
use fleet::op::Script;

use super::Ground;
use crate::ground::run;
use crate::scripts as common;

/// Makes a host with a directory of its own for temporary files.
fn ground() -> (Ground, tempfile::TempDir) {
    let tmp = tempfile::tempdir().unwrap();
    let line = format!("SetEnv TMPDIR={}", tmp.path().display());
    (Ground::with(|builder| builder.config(&line)), tmp)
}

#[test]
fn any_interpreter_runs_with_its_arguments() {
    let (ground, tmp) = ground();
    common::any_interpreter_runs_with_its_arguments(&ground.host(), tmp.path());
}

#[test]
fn a_script_finds_no_file_its_context_and_an_empty_input() {
    let (ground, tmp) = ground();
    common::a_script_finds_no_file_its_context_and_an_empty_input(&ground.host(), tmp.path());
}

#[test]
fn a_long_script_with_any_bytes_arrives_whole() {
    let (ground, tmp) = ground();
    common::a_long_script_with_any_bytes_arrives_whole(&ground.host(), tmp.path());
}

#[test]
fn a_timeout_ends_a_script_and_leaves_nothing() {
    let (ground, tmp) = ground();
    common::a_timeout_ends_a_script_and_leaves_nothing(&ground.host(), tmp.path());
}

#[test]
fn a_server_with_one_session_a_connection_refuses_it_and_keeps_nothing() {
    let tmp = tempfile::tempdir().unwrap();
    let line = format!("SetEnv TMPDIR={}", tmp.path().display());
    let ground = Ground::with(|builder| builder.config(&line).config("MaxSessions 1"));
    let result = run(ground.host(), Script::new("echo ran").unwrap());
    assert_eq!(result.class(), Class::Failed);
    let reason = result.report.reason().unwrap();
    assert!(
        reason.starts_with("a script takes two channels at once: the server refused to open a channel"),
        "{reason}"
    );
    // Its holder removes the file once it has heard that the connection is gone.
    while tmp.path().read_dir().unwrap().next().is_some() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
