//! Runs the binary in a clean place and compares all that it says.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use regex::Regex;
use tempfile::TempDir;

/// The program under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_fleet");

/// A home and working directory of its own, without the user's ssh files, and without `FLEET_*`.
pub(crate) struct Fleet {
    dir: TempDir,
    env: Vec<(OsString, OsString)>,
    stdin: Option<PathBuf>,
    transcript: String,
}

impl Fleet {
    /// Makes an empty directory to run in.
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), env: Vec::new(), stdin: None, transcript: String::new() }
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

    /// Writes a file that nobody else may read.
    pub(crate) fn secret(self, name: &str, text: &str) -> Self {
        let fleet = self.file(name, text);
        std::fs::set_permissions(fleet.dir().join(name), Permissions::from_mode(0o600)).unwrap();
        fleet
    }

    /// Writes a shell script into the directory.
    pub(crate) fn script(self, name: &str, text: &str) -> Self {
        let fleet = self.file(name, &format!("#!/bin/sh\n{text}\n"));
        std::fs::set_permissions(fleet.dir().join(name), Permissions::from_mode(0o755)).unwrap();
        fleet
    }

    /// Makes a key that a passphrase protects.
    pub(crate) fn encrypted_key(self, name: &str, passphrase: &str) -> Self {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-C", "", "-N", passphrase, "-f", name]).current_dir(self.dir());
        assert!(keygen.status().unwrap().success());
        self
    }

    /// Adds keys to a host of the inventory.
    pub(crate) fn configure(self, host: &str, keys: &str) -> Self {
        let path = self.dir().join("hosts.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let header = format!("[hosts.{host}]\n");
        assert!(text.contains(&header), "{host} is no host of\n{text}");
        std::fs::write(path, text.replace(&header, &format!("{header}{keys}\n"))).unwrap();
        self
    }

    /// Sets a variable for what is run from here on.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().into()));
        self
    }

    /// Sets a file of the directory as standard input for what is run from here on.
    pub(crate) fn stdin(mut self, name: &str) -> Self {
        self.stdin = Some(name.into());
        self
    }

    /// Returns the command that runs the binary with these arguments, without a terminal wherever the tests run.
    pub(crate) fn command<I, S>(&self, args: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        // They become the binary: the process is the same. A background job would begin with signals ignored.
        let mut command = Command::new("setsid");
        command
            .args(["env", "--default-signal=INT,HUP,TERM,PIPE", BINARY])
            .args(args)
            .current_dir(self.dir())
            .env_clear()
            .stdin(match &self.stdin {
                Some(name) => std::fs::File::open(self.dir().join(name)).unwrap().into(),
                None => Stdio::null(),
            });
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
            if is_plain { (*arg).to_owned() } else { format!("'{}'", arg.replace('\'', "'\\''")) }
        });
        writeln!(line, " fleet {}", words.collect::<Vec<_>>().join(" ")).unwrap();
        if let Some(name) = &self.stdin {
            line.insert_str(line.len() - 1, &format!(" <{}", name.display()));
        }
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
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"));
        let transcript = normalised(&self.transcript.replace(&*self.dir().to_string_lossy(), "[dir]"));
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

/// Replaces what differs from run to run: times, run identities, and where simulated hosts are.
pub(crate) fn normalised(text: &str) -> String {
    static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let rules = [
            (r#"(?m)^(\{.*"address":)"127\.[0-9.]+","port":[0-9]+"#, "$1[address]"),
            (r"\[127\.[0-9.]+\]:[0-9]{4,5}\b", "[address]"),
            (r"\b127\.[0-9.]+:[0-9]{4,5}\b", "[address]"),
            (r"SHA256:[A-Za-z0-9+/]{43}", "SHA256:[key]"),
            // fleet's own lines.
            (r"(?m)^(fleet: run )[^ :]+: ", "$1[run]: "),
            (r"(?m)^(fleet: .* in )[0-9.]+(?:s|m [0-9]+s|h [0-9]+m)", "$1[time]"),
            (r"(?m)^(fleet: .*, )[0-9.]+ (?:[KMG]i)?B/s", "$1[rate]"),
            // Lines of JSON. How often a transfer is reported depends on the time it takes.
            (r#"(?m)^\{"event":"transfer",.*\n"#, ""),
            (r#""(time|run)":"[^"]*""#, r#""$1":"[$1]""#),
            (r#"("[a-z]+_s"):[0-9.]+"#, "$1:[time]"),
            (r#""phases":\{[^}]*\}"#, r#""phases":{[phases]}"#),
            // Rows of CSV: how long it waited and took, when it was done, and the run.
            (
                r",[0-9.]+,[0-9.]+,[0-9]{4}-[^,]+Z,[^,]+,(exec|script|put|get|ping|copy-id),",
                ",[time],[time],[time],[run],$1,",
            ),
            (r#"(?m)^([^,{" ]+,[^,]*,)127\.[0-9.]+,[0-9]+,"#, "$1[address],"),
        ];
        rules.map(|(pattern, by)| (Regex::new(pattern).unwrap(), by)).into()
    });
    RULES.iter().fold(text.to_owned(), |text, (pattern, by)| pattern.replace_all(&text, *by).into_owned())
}

/// Shows where two texts begin to differ.
fn difference(expected: &str, actual: &str) -> String {
    let same = expected.lines().zip(actual.lines()).take_while(|(a, b)| a == b).count();
    let show = |text: &str, sign: char| -> String {
        text.lines().skip(same.saturating_sub(2)).take(14).map(|line| format!("{sign} {line}\n")).collect()
    };
    format!("from line {}:\n{}\n{}", same + 1, show(expected, '-'), show(actual, '+'))
}
