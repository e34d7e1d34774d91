//! Questions to a person, without echo.

use fleet::inventory::SecretUse;
use fleet::{Error, ErrorKind, Secret};

/// Asks for a secret on the terminal; `host` is the first that needs it.
pub(crate) fn ask(what: SecretUse, host: &str) -> Result<Secret, Error> {
    let wanted = match what {
        SecretUse::Passphrase => "key passphrase",
        SecretUse::Become => "become password",
        _ => "login password",
    };
    if std::fs::File::open("/dev/tty").is_err() {
        let what = format!("cannot ask for the {wanted} of {host}: there is no terminal");
        return Err(Error::new(ErrorKind::Usage, what));
    }
    let typed = rpassword::prompt_password(format!("fleet: {wanted} (for {host} and all alike): "));
    typed.map(Secret::new).map_err(|error| {
        Error::new(ErrorKind::Usage, format!("cannot read the {wanted} from the terminal")).caused_by(error)
    })
}
