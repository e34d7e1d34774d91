//! Runs the binary in a clean place and compares all that it says.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A home and working directory of its own, without the user's ssh files, and without `FLEET_*`.
pub(crate) struct Fleet {
    dir: TempDir,
    env: Vec<(OsString, OsString)>,
    transcript: String,
}

impl Fleet {
    /// Makes an empty directory to run in.
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), env: Vec::new(), transcript: String::new() }
    }

    /// Returns the directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file into the directory.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        let path = self.dir().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// Sets a variable for what is run from here on.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().into()));
        self
    }

    /// Returns the command that runs the binary with these arguments.
    pub(crate) fn command<I, S>(&self, args: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleet"));
        command.args(args).current_dir(self.dir()).env_clear().stdin(Stdio::null());
        command.env("HOME", self.dir()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs the binary and adds the command, all of stdout, all of stderr and the code to the transcript.
    pub(crate) fn run(mut self, args: &[&str]) -> Self {
        let output = self.output(args);
        let mut line = String::from("$");
        for (name, value) in &self.env {
            write!(line, " {}={}", name.display(), value.display()).unwrap();
        }
        let words = args.iter().map(|arg| {
            let is_plain = !arg.is_empty() && !arg.contains([' ', '\'', '[', '!', '|', '$', '&', '*', '\\']);
            if is_plain { (*arg).to_owned() } else { format!("'{arg}'") }
        });
        writeln!(line, " fleet {}", words.collect::<Vec<_>>().join(" ")).unwrap();
        self.transcript.push_str(&line);
        for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            if !bytes.is_empty() {
                let text = String::from_utf8_lossy(bytes);
                let end = if text.ends_with('\n') { "" } else { "⏎\n" };
                write!(self.transcript, "--- {name}\n{text}{end}").unwrap();
            }
        }
        let code = output.status.code().map_or_else(|| output.status.to_string(), |code| code.to_string());
        write!(self.transcript, "--- exit {code}\n\n").unwrap();
        self
    }

    /// Compares the transcript with `tests/golden/NAME.txt`; with `BLESS=1` writes it.
    pub(crate) fn golden(&self, name: &str) {
        self.golden_with(name, str::to_owned);
    }

    /// Compares as [`golden`](Self::golden) does, after changing each line.
    pub(crate) fn golden_with(&self, name: &str, change: impl Fn(&str) -> String) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"));
        let transcript = normalised(&self.transcript.replace(&*self.dir().to_string_lossy(), "[dir]"));
        let transcript: String = transcript.split_inclusive('\n').map(change).collect();
        if std::env::var_os("BLESS").is_some_and(|bless| bless == "1") {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, transcript).unwrap();
            return;
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        if transcript != expected {
            panic!("{} differs (BLESS=1 writes it)\n{}", path.display(), difference(&expected, &transcript));
        }
    }
}

/// Replaces what differs from run to run in fleet's own lines: times and run identities.
pub(crate) fn normalised(text: &str) -> String {
    text.split_inclusive('\n').map(normalised_line).collect()
}

fn normalised_line(line: &str) -> String {
    if line.starts_with('{') {
        let quote = |c: char| c == '"';
        let end = |c: char| c == ',' || c == '}';
        let line = replaced(line, "\"time\":\"", quote, "[time]");
        let line = replaced(&line, "\"run\":\"", quote, "[run]");
        let line = replaced(&line, "\"phases\":{", |c| c == '}', "[phases]");
        return ["queued_s", "duration_s", "delay_s"]
            .iter()
            .fold(line, |line, name| replaced(&line, &format!("\"{name}\":"), end, "[time]"));
    }
    if !line.starts_with("fleet: ") {
        return line.to_owned();
    }
    let line = replaced(line, "fleet: run ", |c| c == ':', "[run]");
    match line.rsplit_once(" in ") {
        Some((before, after)) if after.starts_with(|c: char| c.is_ascii_digit()) => {
            let rest = after.find([' ', '\n']).map_or("", |end| &after[end..]);
            let rest = match (rest.rsplit_once(", "), rest.split_once("/s")) {
                (Some((sizes, _)), Some((_, end))) => format!("{sizes}, [rate]{end}"),
                _ => rest.to_owned(),
            };
            format!("{before} in [time]{rest}")
        }
        _ => line,
    }
}

/// Replaces what stands between `start` and the next `end`.
fn replaced(line: &str, start: &str, end: impl Fn(char) -> bool, by: &str) -> String {
    let Some((before, after)) = line.split_once(start) else { return line.to_owned() };
    let rest = after.find(end).map_or("", |end| &after[end..]);
    format!("{before}{start}{by}{rest}")
}

/// Shows where two texts begin to differ.
fn difference(expected: &str, actual: &str) -> String {
    let same = expected.lines().zip(actual.lines()).take_while(|(a, b)| a == b).count();
    let show = |text: &str, sign: char| -> String {
        text.lines().skip(same.saturating_sub(2)).take(14).map(|line| format!("{sign} {line}\n")).collect()
    };
    format!("from line {}:\n{}\n{}", same + 1, show(expected, '-'), show(actual, '+'))
}
