//! The guard's script under every shell that a login may have, started as sshd starts it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use tempfile::TempDir;

use super::*;

const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Login shells, each with the words before its `-c`.
const SHELLS: [&[&str]; 7] = [&["sh"], &["dash"], &["bash"], &["zsh"], &["fish"], &["busybox", "ash"], &["tcsh"]];

/// A connection that nobody has, and what is started in it.
struct Connection {
    name: String,
    marker: String,
    path: String,
    /// Whether the guard is told that there were commands before.
    is_later: bool,
}

impl Connection {
    fn new(path: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let pid = std::process::id();
        Self {
            name: format!("192.0.2.1 {pid} 192.0.2.2 {number}"),
            marker: format!("{pid}.{number}77"),
            path: path.to_owned(),
            is_later: false,
        }
    }

    /// Starts a command as sshd does: in a session of its own, its streams piped.
    fn start(&self, shell: &[&str], line: &str) -> Child {
        let mut command = Command::new("/usr/bin/setsid");
        command.args(shell).arg("-c").arg(line).env_clear().env("PATH", &self.path).env("HOME", "/nonexistent");
        command.env("SSH_CONNECTION", &self.name);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Starts a command with a pipeline, a background child and one in another session, and waits until all are there.
    fn busy(&self) -> Child {
        let sleep = format!("sleep 1{}", self.marker);
        let child = self.start(&["/bin/sh"], &format!("{sleep} & setsid {sleep} & {sleep} | cat"));
        wait_until(|| self.sleeping().len() == 3);
        child
    }

    fn guard(&self, shell: &[&str]) -> Guarding {
        let since = if self.is_later { Since::Later } else { Since::First };
        let mut child = self.start(shell, &command(Duration::from_secs(10), since, "fgtest"));
        let said = BufReader::new(child.stdout.take().unwrap());
        Guarding { child, said }
    }

    /// The processes of [`busy`](Self::busy), however they are called now.
    fn sleeping(&self) -> Vec<u32> {
        with_argument(&format!("1{}", self.marker))
    }
}

fn with_argument(argument: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"sleep\0") && line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes())
    };
    pids.filter(has).collect()
}

fn wait_until(mut is_done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_done() {
        assert!(since.elapsed() < Duration::from_secs(20), "it takes too long");
        std::thread::yield_now();
    }
}

struct Guarding {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Guarding {
    fn tell(&mut self, word: &str) {
        self.child.stdin.as_mut().unwrap().write_all(format!("{word}\n").as_bytes()).unwrap();
    }

    fn says(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Ends its input and waits for its end.
    fn finish(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn the_command_is_one_line_that_every_shell_reads_alike() {
    let command = command(Duration::from_millis(1234), Since::First, "fgtest");
    let (script, words) = command.strip_prefix("exec sh -c '").unwrap().rsplit_once('\'').unwrap();
    assert_eq!(words, " fleet-guard 13 first fgtest");
    assert!(!script.contains(['\'', '!', '\n', '`']), "{script}");
    assert_eq!(script.matches('\\').count(), 2, "those of tr: {script}");
    assert!(script.contains(r#"tr "\000" "\n""#));
    assert!(command.len() < 4096, "{} bytes", command.len());
}

#[test]
fn every_login_shell_guards() {
    for shell in SHELLS {
        let connection = Connection::new(PATH);
        let mut command = connection.busy();
        let mut guard = connection.guard(shell);
        assert_eq!(guard.says(), "fleet-guard ready", "{shell:?}");
        guard.tell("watch");
        guard.tell("kill");
        wait_until(|| command.try_wait().unwrap().is_some());
        assert_eq!(guard.says(), "fleet-guard gone", "{shell:?}");
        assert_eq!(connection.sleeping(), [0; 0], "{shell:?}");
        guard.tell("done");
        guard.finish();
    }
}

#[test]
fn the_end_of_the_input_ends_the_command_and_a_word_does_not() {
    for shell in SHELLS {
        let connection = Connection::new(PATH);
        let mut command = connection.busy();
        let mut dismissed = connection.guard(shell);
        assert_eq!(dismissed.says(), "fleet-guard ready", "{shell:?}");
        dismissed.tell("watch");
        dismissed.tell("done");
        dismissed.finish();
        let mut unarmed = connection.guard(shell);
        assert_eq!(unarmed.says(), "fleet-guard ready", "{shell:?}");
        unarmed.finish();
        assert_eq!(connection.sleeping().len(), 3, "{shell:?}");
        let mut guard = connection.guard(shell);
        assert_eq!(guard.says(), "fleet-guard ready", "{shell:?}");
        guard.tell("watch");
        // Nobody reads what it says any more either.
        guard.said = BufReader::new(connection.start(&["/bin/sh"], ":").stdout.take().unwrap());
        let reaped = std::thread::spawn(move || command.wait().unwrap());
        guard.finish();
        assert_eq!(connection.sleeping(), [0; 0], "{shell:?}");
        reaped.join().unwrap();
    }
}

/// A directory with these programs and no others.
fn toolbox(tools: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, program) in tools {
        symlink(program, dir.path().join(name)).unwrap();
    }
    dir
}

#[test]
fn the_script_runs_in_any_sh_with_busybox_tools_alone() {
    let busybox = ["grep", "tr", "sleep", "cat", "setsid"].map(|name| (name, "/bin/busybox"));
    for sh in ["/bin/busybox", "/bin/dash", "/bin/bash", "/usr/bin/zsh"] {
        let tools = toolbox(&[&busybox[..], &[("sh", sh)]].concat());
        let connection = Connection::new(tools.path().to_str().unwrap());
        let mut command = connection.busy();
        let mut guard = connection.guard(&["/bin/sh"]);
        assert_eq!(guard.says(), "fleet-guard ready", "{sh}");
        guard.tell("kill");
        let reaped = std::thread::spawn(move || command.wait().unwrap());
        assert_eq!(guard.says(), "fleet-guard gone", "{sh}");
        assert_eq!(connection.sleeping(), [0; 0], "{sh}");
        reaped.join().unwrap();
        guard.tell("done");
        guard.finish();
    }
}

#[test]
fn a_grep_without_z_is_made_up_for() {
    let dir = toolbox(&[
        ("tr", "/usr/bin/tr"),
        ("sleep", "/usr/bin/sleep"),
        ("setsid", "/usr/bin/setsid"),
        ("sh", "/bin/sh"),
        ("cat", "/bin/cat"),
    ]);
    let grep = dir.path().join("grep");
    fs::write(&grep, "#!/bin/sh\ncase $1 in *z*) exit 2;; esac\nexec /usr/bin/grep \"$@\"\n").unwrap();
    fs::set_permissions(&grep, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let connection = Connection::new(dir.path().to_str().unwrap());
    let mut command = connection.busy();
    let mut guard = connection.guard(&["/bin/sh"]);
    assert_eq!(guard.says(), "fleet-guard ready");
    guard.tell("kill");
    let reaped = std::thread::spawn(move || command.wait().unwrap());
    assert_eq!(guard.says(), "fleet-guard gone");
    assert_eq!(connection.sleeping(), [0; 0]);
    reaped.join().unwrap();
    guard.tell("done");
    guard.finish();
}

#[test]
fn without_proc_tools_or_a_connection_there_is_no_guard() {
    let dir = toolbox(&[("sh", "/bin/sh")]);
    let bare = Connection::new(dir.path().to_str().unwrap());
    let mut guard = bare.guard(&["/bin/sh"]);
    assert_eq!(guard.says(), "fleet-guard unable");
    guard.finish();
    let nameless = Connection { name: String::new(), ..Connection::new(PATH) };
    let mut guard = nameless.guard(&["/bin/sh"]);
    assert_eq!(guard.says(), "fleet-guard unable");
    guard.finish();
}

#[test]
fn what_ignores_term_is_killed() {
    let connection = Connection::new(PATH);
    let marker = format!("1{}", connection.marker);
    let mut command = connection.start(&["/bin/sh"], &format!("trap '' TERM; sleep {marker}; sleep {marker}"));
    wait_until(|| !connection.sleeping().is_empty());
    let mut guard = connection.guard(&["/bin/sh"]);
    assert_eq!(guard.says(), "fleet-guard ready");
    guard.tell("kill");
    let begun = Instant::now();
    let ended = std::thread::spawn(move || command.wait().unwrap());
    assert_eq!(guard.says(), "fleet-guard gone");
    assert!(begun.elapsed() > Duration::from_secs(1), "it had no time: {:?}", begun.elapsed());
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended.join().unwrap()), Some(9));
    guard.tell("done");
    guard.finish();
}

#[test]
fn what_an_earlier_command_left_is_spared() {
    let mut connection = Connection::new(PATH);
    let daemon = format!("2{}", connection.marker);
    let line = format!("setsid sleep {daemon} >/dev/null 2>&1 & sleep {daemon} >/dev/null 2>&1 &");
    assert!(connection.start(&["/bin/sh"], &line).wait().unwrap().success());
    wait_until(|| with_argument(&daemon).len() == 2);
    connection.is_later = true;
    let mut alone = connection.guard(&["/bin/sh"]);
    assert_eq!(alone.says(), "fleet-guard unable", "nothing tells it which command is the new one");
    alone.finish();
    let mut command = connection.busy();
    let mut guard = connection.guard(&["/bin/sh"]);
    assert_eq!(guard.says(), "fleet-guard ready");
    guard.tell("kill");
    let reaped = std::thread::spawn(move || command.wait().unwrap());
    assert_eq!(guard.says(), "fleet-guard gone");
    assert_eq!(connection.sleeping(), [0; 0]);
    reaped.join().unwrap();
    let left = with_argument(&daemon);
    assert_eq!(left.len(), 2);
    guard.tell("done");
    guard.finish();
    for pid in left {
        assert!(Command::new("kill").arg(pid.to_string()).status().unwrap().success());
    }
}
