//! Scripts on simulated hosts, with several login shells.

use fleet::op::Script;
use fleet::{Class, ErrorKind};
use fleet_sim::HostPlan;

use crate::ground::{Ground, run, stderr, stdout};
use crate::scripts as common;

/// Makes a host with a directory of its own for temporary files.
fn ground(shell: &str) -> (Ground, tempfile::TempDir) {
    let tmp = tempfile::tempdir().unwrap();
    let plan = HostPlan::new().env("TMPDIR", tmp.path().to_str().unwrap());
    (Ground::one(HostPlan { shell: shell.into(), ..plan }), tmp)
}

#[test]
fn any_interpreter_runs_with_its_arguments() {
    let (ground, tmp) = ground("/bin/sh");
    common::any_interpreter_runs_with_its_arguments(&ground.first(), tmp.path());
}

#[test]
fn a_script_finds_no_file_its_context_and_an_empty_input() {
    for shell in ["/bin/sh", "/bin/bash", "/usr/bin/zsh", "/usr/bin/fish"] {
        if std::path::Path::new(shell).exists() {
            let (ground, tmp) = ground(shell);
            common::a_script_finds_no_file_its_context_and_an_empty_input(&ground.first(), tmp.path());
        }
    }
}

#[test]
fn every_login_shell_starts_a_script() {
    let mut ran = Vec::new();
    for shell in ["/bin/sh", "/bin/bash", "/usr/bin/zsh", "/usr/bin/fish", "/usr/bin/tcsh"] {
        if std::path::Path::new(shell).exists() {
            let (ground, tmp) = ground(shell);
            let script = Script::new("printf '<%s>' \"$@\"; exit 6").unwrap().args(["it's", "$HOME !\\", ""]);
            let result = run(ground.first(), script);
            assert_eq!((stdout(&result).as_str(), stderr(&result).as_str()), ("<it's><$HOME !\\><>", ""), "{shell}");
            assert_eq!(result.value().unwrap().code(), Some(6), "{shell}");
            assert!(tmp.path().read_dir().unwrap().next().is_none(), "{shell}");
            ran.push(shell);
        }
    }
    assert!(ran.len() >= 2, "{ran:?}");
}

#[test]
fn a_long_script_with_any_bytes_arrives_whole() {
    let (ground, tmp) = ground("/bin/sh");
    common::a_long_script_with_any_bytes_arrives_whole(&ground.first(), tmp.path());
}

#[test]
fn a_timeout_ends_a_script_and_leaves_nothing() {
    let (ground, tmp) = ground("/bin/sh");
    common::a_timeout_ends_a_script_and_leaves_nothing(&ground.first(), tmp.path());
    ground.assert_no_process_is_left();
}

#[test]
fn an_interpreter_that_is_missing_is_the_hosts_words() {
    let (ground, tmp) = ground("/bin/sh");
    let result = run(ground.first(), Script::new("#!/no/such/program\n").unwrap());
    assert_eq!((result.class(), result.value().unwrap().code()), (Class::Failed, Some(127)));
    assert!(stderr(&result).contains("/no/such/program"), "{}", stderr(&result));
    assert!(tmp.path().read_dir().unwrap().next().is_none());
}

#[test]
fn a_host_that_takes_no_script_says_why() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("mktemp");
    std::fs::write(&path, "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let ground = Ground::one(HostPlan::new().env("PATH", format!("{}:/usr/bin:/bin", tmp.path().display())));
    let result = run(ground.first(), Script::new("echo ran").unwrap());
    let error = result.error().unwrap();
    assert_eq!((error.kind(), result.class()), (ErrorKind::Refused, Class::Failed));
    let expected = "the host does not take the script: there is no place for a temporary file";
    assert_eq!(error.chain(), expected);
}

#[test]
fn arguments_too_long_for_a_packet_are_refused_before_anything_is_sent() {
    let (ground, _tmp) = ground("/bin/sh");
    let result = run(ground.first(), Script::new("echo").unwrap().args(["x".repeat(40_000)]));
    assert_eq!(result.error().unwrap().kind(), ErrorKind::Usage);
    assert_eq!(ground.sim.stats().commands, 0);
}

#[test]
fn one_script_runs_on_many_hosts() {
    let plans = (0..20).map(|_| HostPlan::new()).collect();
    let ground = Ground::start(plans);
    let script = Script::new("echo $(($1 * 2))").unwrap().args(["21"]);
    for result in crate::ground::pool().build().map(&ground.hosts(), script) {
        assert_eq!(stdout(&result), "42\n");
    }
}
