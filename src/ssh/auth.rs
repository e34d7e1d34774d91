//! Logging in: keys in order, then the password, and what the server says to each.

use libssh2_sys as ffi;

use super::error::Fault;
use super::keys::KeyStore;
use super::wait::Driver;
use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::host::{Host, Identity, Secret};

/// Logs in.
///
/// # Errors
/// `Login` when the server refused everything that was offered; also when it hung up after a refusal, so that nobody
/// tries the same again.
pub(super) fn login(driver: &mut Driver, host: &Host, keys: &KeyStore, budget: &Budget) -> Result<()> {
    let mut refused = Vec::new();
    match attempt(driver, host, keys, budget, &mut refused) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::Disconnected && !refused.is_empty() => {
            let what = format!("login refused for {}: {}", host.user, error.chain());
            Err(Error::new(ErrorKind::Login, what).in_phase(Phase::Login))
        }
        Err(error) => Err(error),
    }
}

fn attempt(
    driver: &mut Driver,
    host: &Host,
    keys: &KeyStore,
    budget: &Budget,
    refused: &mut Vec<String>,
) -> Result<()> {
    let mut unusable = None;
    for identity in &host.auth.identities {
        let key = match keys.load(identity, host.auth.passphrase.as_ref()) {
            Ok(key) => key,
            Err(error) => {
                // Another key or the password may still do.
                unusable.get_or_insert(error);
                continue;
            }
        };
        let user = &host.user;
        let tried = driver.drive(budget, |link| {
            link.session(|session| {
                session.userauth_pubkey_memory(user, Some(key.public_line()), key.private_pem(), None)
            })
        });
        if is_accepted(tried)? {
            return Ok(());
        }
        refused.push(match identity {
            Identity::File(path) => format!("key {}", path.display()),
            Identity::Memory(_) => format!("key {}", key.fingerprint()),
        });
    }
    if let Some(password) = &host.auth.password
        && with_password(driver, host, password, budget, refused)?
    {
        return Ok(());
    }
    match unusable {
        Some(error) if refused.is_empty() => Err(error.in_phase(Phase::Login)),
        _ => Err(refusal(driver, host, budget, refused)),
    }
}

/// Offers the password, as `password` and, where the server does not take that, as the answer to its one question.
fn with_password(
    driver: &mut Driver,
    host: &Host,
    password: &Secret,
    budget: &Budget,
    refused: &mut Vec<String>,
) -> Result<bool> {
    let user = &host.user;
    let tried = driver.drive(budget, |link| link.session(|session| session.userauth_password(user, password.expose())));
    if is_accepted(tried)? {
        return Ok(true);
    }
    let methods = methods(driver, host, budget)?;
    let offers = |name: &str| methods.iter().any(|method| method == name);
    // Where `password` is offered, it was the password that was refused: asking again may lock the account.
    if offers("password") || !offers("keyboard-interactive") {
        refused.push("the password".to_owned());
        return Ok(false);
    }
    let mut answers = OneAnswer { password, is_given: false };
    let tried =
        driver.drive(budget, |link| link.session(|session| session.userauth_keyboard_interactive(user, &mut answers)));
    if is_accepted(tried)? {
        return Ok(true);
    }
    refused.push("the password (keyboard-interactive)".to_owned());
    Ok(false)
}

/// Answers the first hidden question with the password, and nothing else: a second question means that it was wrong.
struct OneAnswer<'a> {
    password: &'a Secret,
    is_given: bool,
}

impl ssh2::KeyboardInteractivePrompt for OneAnswer<'_> {
    fn prompt(&mut self, _name: &str, _instructions: &str, prompts: &[ssh2::Prompt<'_>]) -> Vec<String> {
        prompts
            .iter()
            .map(|prompt| {
                if prompt.echo || self.is_given {
                    return String::new();
                }
                self.is_given = true;
                self.password.expose().to_owned()
            })
            .collect()
    }
}

/// Sorts the server's answer: accepted, refused, or a failure of something else.
fn is_accepted(tried: Result<(), Fault>) -> Result<bool> {
    match tried {
        Ok(()) => Ok(true),
        Err(Fault::Refused(failure)) => match failure.code {
            ffi::LIBSSH2_ERROR_AUTHENTICATION_FAILED
            | ffi::LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED
            | ffi::LIBSSH2_ERROR_METHOD_NONE
            | ffi::LIBSSH2_ERROR_METHOD_NOT_SUPPORTED
            | ffi::LIBSSH2_ERROR_ALGO_UNSUPPORTED
            | ffi::LIBSSH2_ERROR_PASSWORD_EXPIRED => Ok(false),
            _ => Err(Fault::Refused(failure).into_error(Phase::Login, "cannot log in")),
        },
        Err(fault) => Err(fault.into_error(Phase::Login, "cannot log in")),
    }
}

/// Asks which methods the server offers.
fn methods(driver: &mut Driver, host: &Host, budget: &Budget) -> Result<Vec<String>> {
    let asked = driver.drive(budget, |link| {
        link.session(|session| {
            session.auth_methods(&host.user).map(|methods| methods.split(',').map(str::to_owned).collect())
        })
    });
    match asked {
        Ok(methods) => Ok(methods),
        Err(Fault::Error(error)) => Err(error),
        // No list is no reason to fail: the refusal itself is what is reported.
        Err(Fault::Refused(_)) => Ok(Vec::new()),
    }
}

fn refusal(driver: &mut Driver, host: &Host, budget: &Budget, refused: &[String]) -> Error {
    let offered = methods(driver, host, budget).unwrap_or_default().join(", ");
    let offered = if offered.is_empty() { String::new() } else { format!(" (the server offers {offered})") };
    let what = match refused {
        [] => format!("nothing to log in with as {}: no key and no password{offered}", host.user),
        _ => format!("login refused for {}: {}{offered}", host.user, refused.join(", ")),
    };
    Error::new(ErrorKind::Login, what).in_phase(Phase::Login)
}
