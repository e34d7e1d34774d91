//! How a script's text gets to its host: by a process on a channel of its own, which holds the file until it is opened.
//!
//! When the connection ends before that, the end of the holder's standard input is its cue to remove the file.

use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::event::Stream;
use crate::quote::quote;
use crate::transport::{ExecRequest, ProcId, Session, SessionEvent};

/// The script as its interpreter sees it.
pub(super) const OPENED: &str = "/dev/fd/9";

/// Takes the text, says who and where it is, and waits. `$1` is the text's length in bytes.
const HOLD: &str = r#"umask 077
for d in "${TMPDIR:-/tmp}" /var/tmp /dev/shm "$HOME"; do f=$(mktemp "$d/.fleet.XXXXXXXXXX" 2>/dev/null) && break; done
test "$f" || { echo "there is no place for a temporary file" >&2; exit 1; }
trap "exit 1" HUP INT TERM PIPE
trap "rm -f \"\$f\"" EXIT
head -c "$1" >"$f" && test "$(wc -c <"$f")" -eq "$1" || exit 1
echo "fleet-script $$ $f"
read -r x"#;

/// Opens the file `$2`, removes it, ends its holder `$1` and becomes the rest. Where a descriptor has no name, the file has
/// to stay as long as the script runs.
const OPEN: &str = r#"exec 9<"$2" || exit
h=$1 f=$2
shift 2
if test -r /dev/fd/9; then rm -f "$f"; kill -KILL "$h"; exec "$@"; fi
kill -KILL "$h"
trap "rm -f \"\$f\"" EXIT
trap "exit 129" HUP
trap "exit 130" INT
trap "exit 143" TERM
n=
for a do
  shift
  if test "$a" = /dev/fd/9 && test -z "$n"; then a=$f n=1; fi
  set -- "$@" "$a"
done
"$@" 9<&-"#;

/// The line by which the holder says that it has the text: `fleet-script PID PATH`.
const READY: &[u8] = b"fleet-script ";

/// How much is kept of what a login's shell and the holder say, in bytes.
const HEARD: usize = 64 * 1024;

/// A script on its host, held for whoever opens it.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) holder: ProcId,
    pid: Vec<u8>,
    path: Vec<u8>,
}

impl Carried {
    /// Stands for any: nothing the host says is longer.
    pub(super) fn longest() -> Self {
        Self { holder: ProcId(0), pid: vec![b'9'; 20], path: vec![b' '; MAX_PATH] }
    }

    /// Makes the command that runs these words with the script opened.
    pub(super) fn command(&self, words: &[Vec<u8>]) -> Vec<u8> {
        let [open, pid, path] = [one_line(OPEN), self.pid.clone(), self.path.clone()].map(quote);
        [b"exec sh -c ", &*open, b" fleet-script ", &*pid, b" ", &*path, b" ", &*words.join(&b' ')].concat()
    }
}

/// The longest path taken from a host, in bytes.
const MAX_PATH: usize = 1024;

/// Writes a shell script as csh can hold it in one word too.
fn one_line(script: &str) -> Vec<u8> {
    let ends_open = |line: &str| ["do", "then", "{"].iter().any(|word| line.ends_with(word));
    let mut line = String::new();
    for next in script.lines().map(str::trim) {
        if !line.is_empty() {
            line.push_str(if ends_open(&line) { " " } else { "; " });
        }
        line.push_str(next);
    }
    line.into_bytes()
}

/// Brings the text to the host.
///
/// # Errors
/// `Refused` when the host cannot take it, with its own words; else as [`Session::start`] and [`Session::pump`].
pub(super) fn carry(session: &mut dyn Session, text: &[u8], budget: &Budget) -> Result<Carried> {
    let hold = quote(one_line(HOLD));
    let len = text.len().to_string();
    let mut request = ExecRequest::new([b"exec sh -c ", &*hold, b" fleet-script ", len.as_bytes()].concat());
    request.stdin = true;
    let holder = session.start(&request, budget)?;
    let carried = feed(session, holder, text, budget);
    if carried.is_err() {
        // It removes the file then.
        let _ = session.close_stdin(holder);
    }
    carried
}

fn feed(session: &mut dyn Session, holder: ProcId, mut text: &[u8], budget: &Budget) -> Result<Carried> {
    let (mut said, mut complaint) = (Vec::new(), Vec::new());
    loop {
        while !text.is_empty() {
            let taken = session.write(holder, text)?;
            if taken == 0 {
                break;
            }
            text = text.get(taken..).unwrap_or_default();
        }
        match session.pump(budget)? {
            SessionEvent::Output { id, stream, bytes } if id == holder => {
                let heard = if stream == Stream::Stdout { &mut said } else { &mut complaint };
                heard.extend_from_slice(&bytes);
                if heard.len() > HEARD {
                    return Err(refused("it wrote something else instead"));
                }
                if let Some((pid, path)) = ready(&said) {
                    return Ok(Carried { holder, pid, path });
                }
            }
            SessionEvent::Ended { id, .. } if id == holder => {
                let words = String::from_utf8_lossy(complaint.trim_ascii()).replace('\n', "; ");
                return Err(refused(if words.is_empty() { "it ended without a word" } else { &words }));
            }
            _ => {}
        }
    }
}

fn refused(why: &str) -> Error {
    let cause = Error::new(ErrorKind::Refused, why);
    Error::new(ErrorKind::Refused, "the host does not take the script").caused_by(cause).in_phase(Phase::Transfer)
}

/// Finds the line that says it is ready, after whatever else a login's shell may say.
fn ready(said: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let complete = said.get(..said.iter().rposition(|byte| *byte == b'\n')?)?;
    let line = complete.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(READY))?;
    let space = line.iter().position(|byte| *byte == b' ')?;
    let (pid, path) = (line.get(..space)?, line.get(space + 1..)?);
    let is_sound = pid.iter().all(u8::is_ascii_digit) && path.starts_with(b"/") && path.len() <= MAX_PATH;
    is_sound.then(|| (pid.to_vec(), path.to_vec()))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::path::Path;
    use std::process::{Child, Command, Stdio};

    use super::*;

    const SHELLS: [&[&str]; 4] = [&["sh"], &["dash"], &["bash", "--posix"], &["busybox", "ash"]];

    fn shells() -> impl Iterator<Item = &'static [&'static str]> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_there = move |shell: &&[&str]| std::env::split_paths(&path).any(|dir| dir.join(shell[0]).is_file());
        SHELLS.into_iter().filter(is_there)
    }

    fn hold(shell: &[&str], tmp: &Path, len: usize) -> Child {
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).arg("-c").arg(String::from_utf8(one_line(HOLD)).unwrap());
        command.args(["fleet-script", &len.to_string()]).env("TMPDIR", tmp);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Waits until the holder is ready.
    fn held(shell: &[&str], tmp: &Path, text: &str) -> (Child, Carried) {
        let mut child = hold(shell, tmp, text.len());
        child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (pid, path) = ready(line.as_bytes()).unwrap_or_else(|| panic!("{shell:?}: {line:?}"));
        (child, Carried { holder: ProcId(0), pid, path })
    }

    fn is_empty(dir: &Path) -> bool {
        std::fs::read_dir(dir).unwrap().next().is_none()
    }

    #[test]
    fn nothing_is_left_when_the_connection_ends_while_the_text_comes() {
        for shell in shells() {
            let tmp = tempfile::tempdir().unwrap();
            let mut child = hold(shell, tmp.path(), 100);
            child.stdin.take().unwrap().write_all(b"echo half").unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(1), "{shell:?}");
            assert!(is_empty(tmp.path()), "{shell:?}");
        }
    }

    #[test]
    fn nothing_is_left_when_the_connection_ends_before_the_script_starts() {
        for shell in shells() {
            let tmp = tempfile::tempdir().unwrap();
            let (mut child, carried) = held(shell, tmp.path(), "echo x");
            let path = String::from_utf8(carried.path).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "echo x");
            let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600);
            drop(child.stdin.take());
            child.wait().unwrap();
            assert!(is_empty(tmp.path()), "{shell:?}");
        }
    }

    /// Runs a held script by a shell, and returns what it wrote and its status.
    fn opened(
        shell: &[&str],
        carried: &Carried,
        words: &[&str],
        change: impl Fn(String) -> String,
    ) -> (String, Option<i32>) {
        let words: Vec<Vec<u8>> = words.iter().map(quote).collect();
        let command = change(String::from_utf8(carried.command(&words)).unwrap());
        let command = command.replacen("exec sh -c", &format!("exec {} -c", shell.join(" ")), 1);
        let output = Command::new("sh").arg("-c").arg(command).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{shell:?}");
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    }

    #[test]
    fn a_script_is_gone_before_it_runs_and_so_is_its_holder() {
        for shell in shells() {
            let tmp = tempfile::tempdir().unwrap();
            let text = format!("ls -A {}; echo \"$0 $1\"; exit 5", tmp.path().display());
            let (mut child, carried) = held(shell, tmp.path(), &text);
            let ran = opened(shell, &carried, &["sh", OPENED, "a  b"], |command| command);
            assert_eq!(ran, ("/dev/fd/9 a  b\n".to_owned(), Some(5)), "{shell:?}");
            let ended = child.wait().unwrap();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9), "{shell:?}");
        }
    }

    #[test]
    fn without_names_for_descriptors_the_file_stays_until_the_script_has_ended() {
        for shell in shells() {
            let tmp = tempfile::tempdir().unwrap();
            let (mut child, carried) = held(shell, tmp.path(), "test -f \"$0\"; echo \"$? $1 $2\"; exit 5");
            let words = ["sh", "/no/fd/9", "/no/fd/9", "a b"];
            let ran = opened(shell, &carried, &words, |command| command.replace("/dev/fd/9", "/no/fd/9"));
            assert_eq!(ran, ("0 /no/fd/9 a b\n".to_owned(), Some(5)), "{shell:?}");
            child.wait().unwrap();
            assert!(is_empty(tmp.path()), "{shell:?}");
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_passed_over() {
        let tmp = tempfile::tempdir().unwrap();
        let (mut child, carried) = held(&["sh"], &tmp.path().join("missing"), "x");
        assert!(carried.path.starts_with(b"/var/tmp/.fleet."));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!Path::new(std::str::from_utf8(&carried.path).unwrap()).exists());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "");
    }

    #[test]
    fn the_ready_line_is_found_after_what_a_login_says() {
        let said = b"Welcome\nfleet-script 12 /tmp/a b\n";
        assert_eq!(ready(said), Some((b"12".to_vec(), b"/tmp/a b".to_vec())));
        for said in ["fleet-script 12 /tmp/a", "fleet-script x /tmp/a\n", "fleet-script 12 a\n", "x\n", ""] {
            assert_eq!(ready(said.as_bytes()), None, "{said}");
        }
    }
}
