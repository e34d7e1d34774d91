//! `--stdin` and scripts from standard input.

use std::io::Write as _;
use std::process::{Output, Stdio};

use crate::Fleet;
use crate::ground::Ground;

use super::{code, stderr};

/// Runs fleet with this standard input.
fn fed(fleet: &Fleet, args: &[&str], input: &[u8]) -> Output {
    let mut command = fleet.command(args.iter().copied());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_pipe_goes_to_every_host_one_after_the_other() {
    let Ground { fleet, sim: _sim } = Ground::healthy(3);
    let output = fed(&fleet, &["exec", "-f", "1", "--stdin", "-", "tr a-z A-Z"], b"one\ntwo\n");
    let expected = "sim0001: ONE\nsim0001: TWO\nsim0002: ONE\nsim0002: TWO\nsim0003: ONE\nsim0003: TWO\n";
    assert_eq!(
        (std::str::from_utf8(&output.stdout).unwrap(), code(&output)),
        (expected, Some(0)),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_file_goes_over_with_every_byte() {
    let Ground { fleet, sim: _sim } = Ground::healthy(1);
    let bytes: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    std::fs::write(fleet.dir().join("data"), &bytes).unwrap();
    let output = fleet.output(&["exec", "-N", "--stdin", "data", "cat"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert!(output.stdout == bytes);
}

#[test]
fn a_script_and_its_input_come_from_different_places() {
    let Ground { fleet, sim: _sim } = Ground::healthy(2);
    std::fs::write(fleet.dir().join("add.pl"), "#!/usr/bin/perl\nprint $ARGV[0] + <STDIN>, \"\\n\"; exit 5").unwrap();
    let output = fed(&fleet, &["script", "-f", "1", "--stdin", "-", "add.pl", "2"], b"40\n");
    assert_eq!((&*output.stdout, code(&output)), (&b"sim0001: 42\nsim0002: 42\n"[..], Some(1)), "{}", stderr(&output));
    let output = fed(&fleet, &["script", "-f", "1", "-", "a  b"], b"echo \"$1\"; cat\n");
    assert_eq!(
        (&*output.stdout, code(&output)),
        (&b"sim0001: a  b\nsim0002: a  b\n"[..], Some(0)),
        "{}",
        stderr(&output)
    );
}

#[test]
fn an_input_that_cannot_be_read_is_refused_or_an_error_of_fleets() {
    let Ground { fleet, sim } = Ground::healthy(1);
    let output = fleet.output(&["exec", "--stdin", "missing", "cat"]);
    assert_eq!((code(&output), sim.stats().connections), (Some(2), 0));
    assert_eq!(stderr(&output), "fleet: cannot read missing: No such file or directory (os error 2)\n");
    let output = fleet.output(&["exec", "--stdin", "/proc/self/mem", "cat"]);
    assert_eq!(code(&output), Some(70));
    let expected = "fleet: sim0001: error: cannot read /proc/self/mem: Input/output error (os error 5)\n";
    assert!(stderr(&output).starts_with(expected), "{}", stderr(&output));
    let output = fed(&fleet, &["script", "--stdin", "-", "-"], b"");
    assert_eq!(stderr(&output), "fleet: standard input cannot be both the script and what it reads\n");
    assert_eq!(code(&output), Some(2));
}
