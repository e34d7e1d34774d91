//! ClusterShell's programs, to stand beside.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cost::{Cost, measure, median};

/// Runs a program of ClusterShell on a file, as often as said; `None` where it is not installed.
pub(crate) fn of_clustershell(words: &[&str], input: &Path, rounds: usize) -> Option<Cost> {
    let (program, args) = words.split_first().unwrap();
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
    let one = |_| {
        let mut command = Command::new(program);
        command.args(args).stdin(File::open(input).unwrap());
        measure(command)
    };
    Some(median((0..rounds).map(one).collect()))
}
