//! Questions to a person, without echo.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use fleet::inventory::SecretUse;
use fleet::pool::{RunControl, WaveEnd};
use fleet::{Error, ErrorKind, Secret};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::screen::Screen;
use super::signal;

/// How often a question looks up whether the program is to end, in milliseconds.
const GLANCE_MS: u8 = 50;

/// Tells whether somebody can be asked: whatever standard input is, the terminal is.
pub(crate) fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Asks for a secret; `host` is the first that needs it.
pub(crate) fn secret(what: &SecretUse, host: &str) -> Result<Secret, Error> {
    let wanted = match what {
        SecretUse::Passphrase => "key passphrase",
        SecretUse::Become => "sudo password",
        SecretUse::Password => "login password",
        other => &other.to_string(),
    };
    if !has_terminal() {
        let what = format!("cannot ask for the {wanted} of {host}: there is no terminal");
        return Err(Error::new(ErrorKind::Usage, what));
    }
    ask(&format!("{wanted} (for {host} and all alike)"))
}

/// Asks for the passphrase of a key file; nothing typed leaves the key out.
pub(crate) fn passphrase(key: &Path) -> Result<Option<Secret>, Error> {
    let typed = ask(&format!("passphrase of key {} (empty: do not use it)", key.display()))?;
    Ok(Some(typed).filter(|typed| !typed.expose().is_empty()))
}

/// Asks whether the next wave may begin. Whatever stops the run answers no; so does the end of the terminal.
pub(crate) fn next_wave(end: &WaveEnd, control: &RunControl, screen: &Screen) -> bool {
    let WaveEnd { number, done, failures, next, hosts, .. } = *end;
    let question =
        format!("wave {number} ended: {done} of {hosts} hosts done, {failures} failed; begin the next {next}?");
    let answer = screen.without_foot(|| confirm(&question, || control.stopped().is_some()));
    // Where nobody can be asked nobody said yes.
    matches!(answer, Ok(Some(true)))
}

fn ask(question: &str) -> Result<Secret, Error> {
    let typed = signal::without_interrupt(|| rpassword::prompt_password(format!("fleet: {question}: ")));
    typed.map(Secret::typed).map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => interrupted(),
        _ => Error::new(ErrorKind::Usage, format!("cannot read the {question} from the terminal")).caused_by(error),
    })
}

/// Asks for a yes on the terminal; `None` when `is_stopped` says so meanwhile.
pub(crate) fn confirm(question: &str, is_stopped: impl Fn() -> bool) -> Result<Option<bool>, Error> {
    let cannot = |error| Error::new(ErrorKind::LocalLimit, "cannot ask on the terminal").caused_by(error);
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(cannot)?;
    terminal.write_all(format!("fleet: {question} [y/N] ").as_bytes()).map_err(cannot)?;
    let mut typed = Vec::new();
    while typed.last() != Some(&b'\n') {
        if is_stopped() {
            terminal.write_all(b"\n").map_err(cannot)?;
            return Ok(None);
        }
        let mut ready = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::from(GLANCE_MS)) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(cannot(error.into())),
        }
        let mut bytes = [0; 64];
        let len = terminal.read(&mut bytes).map_err(cannot)?;
        if len == 0 {
            // Ctrl-D.
            terminal.write_all(b"\n").map_err(cannot)?;
            break;
        }
        typed.extend(bytes.iter().take(len));
    }
    Ok(Some(matches!(&*typed.trim_ascii().to_ascii_lowercase(), b"y" | b"yes")))
}

/// Returns what is said when somebody pressed Ctrl-C instead of answering.
pub(crate) fn interrupted() -> Error {
    Error::new(ErrorKind::Cancelled, "interrupted: no host was contacted")
}
