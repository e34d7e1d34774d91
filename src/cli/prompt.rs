//! Questions to a person, without echo.

use std::io;
use std::path::Path;

use fleet::inventory::SecretUse;
use fleet::{Error, ErrorKind, Secret};

use super::signal;

/// Tells whether somebody can be asked: whatever standard input is, the terminal is.
pub(crate) fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Asks for a secret; `host` is the first that needs it.
pub(crate) fn secret(what: SecretUse, host: &str) -> Result<Secret, Error> {
    let wanted = match what {
        SecretUse::Passphrase => "key passphrase",
        SecretUse::Become => "become password",
        _ => "login password",
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

fn ask(question: &str) -> Result<Secret, Error> {
    let typed = signal::without_interrupt(|| rpassword::prompt_password(format!("fleet: {question}: ")));
    typed.map(Secret::typed).map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => interrupted(),
        _ => Error::new(ErrorKind::Usage, format!("cannot read the {question} from the terminal")).caused_by(error),
    })
}

/// Returns what is said when somebody pressed Ctrl-C instead of answering.
pub(crate) fn interrupted() -> Error {
    Error::new(ErrorKind::Cancelled, "interrupted: no host was contacted")
}
