//! Programs that print an inventory: they are asked with `--list`, as Ansible asks them.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::error::{Error, ErrorKind, Result};
use crate::inventory::build::usage;

/// How long a program may take. Those that ask a cloud take seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a program did.
enum News {
    Stdout(std::io::Result<Vec<u8>>),
    Stderr(Vec<u8>),
    Ended(std::io::Result<ExitStatus>),
}

/// Runs an inventory program and returns what it prints, if it ends before the deadline, and within 60 s.
///
/// # Errors
///
/// When it cannot be started, does not end in time, ends badly (with its last words on standard error), or prints no text.
pub(super) fn run(path: &Path, args: &[&str], deadline: Option<Instant>) -> Result<String> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    run_within(path, args, left.map_or(PATIENCE, |left| left.min(PATIENCE)))
}

fn run_within(path: &Path, args: &[&str], patience: Duration) -> Result<String> {
    let shown = format!("inventory program {} {}", path.display(), args.join(" "));
    let cannot = |error| Error::new(ErrorKind::Usage, format!("cannot run {shown}")).caused_by(error);
    // A name without a slash would be looked for in PATH.
    let mut command = Command::new(Path::new(".").join(path));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(cannot)?;
    let (Some(mut stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        unreachable!("both were piped")
    };
    let group = Pid::from_raw(child.id().cast_signed());
    let (sender, news) = bounded(3);
    let read_stdout = move |sender: Sender<News>| {
        let mut bytes = Vec::new();
        let read = stdout.read_to_end(&mut bytes).map(|_| bytes);
        // Nobody listens any more when it took too long.
        let _ = sender.send(News::Stdout(read));
    };
    let read_stderr = move |sender: Sender<News>| {
        let _ = sender.send(News::Stderr(last_words(stderr)));
    };
    let wait = move |sender: Sender<News>| {
        let _ = sender.send(News::Ended(child.wait()));
    };
    for (name, work) in [
        ("inventory-out", Box::new(read_stdout) as Box<dyn FnOnce(Sender<News>) + Send>),
        ("inventory-err", Box::new(read_stderr)),
        ("inventory-wait", Box::new(wait)),
    ] {
        let sender = sender.clone();
        // They end with the program; one that leaves its group and keeps a pipe is left behind with its thread.
        std::thread::Builder::new().name(name.to_owned()).spawn(move || work(sender)).map_err(cannot)?;
    }
    let deadline = Instant::now() + patience;
    let (mut printed, mut said, mut status) = (None, None, None);
    while printed.is_none() || said.is_none() || status.is_none() {
        match news.recv_deadline(deadline) {
            Ok(News::Stdout(bytes)) => printed = Some(bytes),
            Ok(News::Stderr(bytes)) => said = Some(bytes),
            Ok(News::Ended(how)) => status = Some(how),
            Err(_) => {
                // Already gone is as good.
                let _ = killpg(group, Signal::SIGKILL);
                let words = said.map_or_else(String::new, |said| quoted(&said));
                return Err(usage(format!("{shown} did not end within {} s{words}", patience.as_secs_f32())));
            }
        }
    }
    let (Some(printed), Some(said), Some(status)) = (printed, said, status) else {
        unreachable!("the loop goes on until all is there")
    };
    let status = status.map_err(cannot)?;
    if !status.success() {
        return Err(usage(format!("{shown} failed: {status}{}", quoted(&said))));
    }
    String::from_utf8(printed.map_err(cannot)?).map_err(|_| usage(format!("{shown} prints no UTF-8")))
}

/// Reads to the end and keeps the end.
fn last_words(mut from: impl Read) -> Vec<u8> {
    const KEPT: usize = 4096;
    let mut kept = Vec::new();
    let mut chunk = [0; KEPT];
    while let Ok(count) = from.read(&mut chunk)
        && count > 0
    {
        kept.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let extra = kept.len().saturating_sub(KEPT);
        kept.drain(..extra);
    }
    kept
}

/// Returns the last line that says something, for the end of an error.
fn quoted(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    line.map_or_else(String::new, |line| format!(": {line}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn program(text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("inv");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        dir
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let dir = program("#!/bin/sh\nsleep 1000 & wait\n");
        let error = run_within(&dir.path().join("inv"), &["--list"], Duration::from_millis(200)).unwrap_err();
        assert!(error.to_string().ends_with("inv --list did not end within 0.2 s"), "{error}");
    }

    #[test]
    fn a_great_deal_on_both_streams_is_read() {
        let dir =
            program("#!/bin/sh\nhead -c 300000 /dev/zero | tr '\\0' x >&2\nhead -c 300000 /dev/zero | tr '\\0' y\n");
        assert_eq!(run(&dir.path().join("inv"), &["--list"], None).unwrap().len(), 300_000);
    }
}
