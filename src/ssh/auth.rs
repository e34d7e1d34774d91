//! Logging in: keys and the password in their order, what the server says to each, and logins of several steps.

use std::collections::VecDeque;
use std::sync::Arc;

use libssh2_sys as ffi;

use super::agent::{Agent, AgentKey, Agents, Trouble};
use super::answers::Answers;
use super::error::Fault;
use super::keys::KeyStore;
use super::offers::{Offer, Signer, offers};
use super::raw::{Signing, is_after_signature};
use super::wait::Driver;
use crate::breaker::Breakers;
use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::host::{Host, Identity, LoginMethod, Secret};
use crate::transport::NOTHING_TO_LOG_IN_WITH;

const PUBLICKEY: &str = "publickey";
const PASSWORD: &str = "password";
const KEYBOARD: &str = "keyboard-interactive";

/// What a run logs in with, read or asked for once.
#[derive(Debug, Default)]
pub(super) struct Keyring {
    pub(super) keys: KeyStore,
    pub(super) agents: Agents,
    breakers: Breakers,
}

/// An agent and the keys that it has.
type Held = (Arc<Agent>, Arc<[AgentKey]>);

impl Keyring {
    /// Returns the agent of a host and its keys; none where no agent is used.
    fn agent(&self, host: &Host, budget: &Budget) -> Result<Option<Held>, Trouble> {
        let Some(socket) = host.auth.agent.socket() else { return Ok(None) };
        let agent = self.agents.at(socket);
        let keys = agent.keys(budget)?;
        Ok(Some((agent, keys)))
    }

    /// Returns the keys that the agent of a host has. One that does not answer has none.
    pub(super) fn agent_keys(&self, host: &Host, budget: &Budget) -> Arc<[AgentKey]> {
        self.agent(host, budget).ok().flatten().map(|(_, held)| held).unwrap_or_default()
    }

    /// Tells whether the agent of a host has an identity's key. One that does not answer has none.
    pub(super) fn agent_has(&self, host: &Host, identity: &Identity, budget: &Budget) -> bool {
        let held = self.agent_keys(host, budget);
        self.keys.public(identity).key.is_some_and(|key| held.iter().any(|held| *held.plain() == key))
    }
}

/// Logs in.
///
/// # Errors
/// `Login` when the server refused everything that was offered; also when it hung up after a refusal, so that nobody
/// tries the same again.
pub(super) fn login(driver: &mut Driver, host: &Host, keyring: &Keyring, budget: &Budget) -> Result<()> {
    let mut login = Login {
        driver,
        host,
        keyring,
        budget,
        refused: Vec::new(),
        steps: Vec::new(),
        troubles: Vec::new(),
        unusable: None,
        is_password_refused: false,
    };
    match login.run() {
        Err(error) if error.kind() == ErrorKind::Disconnected && !login.refused.is_empty() => {
            let refused = login.refused.join(", ");
            let what = format!("login refused for {}: {refused}, then {}", host.user, error.chain());
            Err(Error::new(ErrorKind::Login, what).in_phase(Phase::Login))
        }
        done => done,
    }
}

/// What became of a method.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    In,
    /// Taken, and the server wants one of these methods as well.
    Step(Vec<String>),
    Refused,
}

/// What became of one key.
enum Tried {
    In,
    Step(Vec<String>),
    Refused,
    /// Nobody signed for it.
    Unsigned,
}

/// The login of one connection.
struct Login<'a> {
    driver: &'a mut Driver,
    host: &'a Host,
    keyring: &'a Keyring,
    budget: &'a Budget,
    /// What the server refused, in its order.
    refused: Vec<String>,
    /// What the server took as a step of several.
    steps: Vec<String>,
    /// What agents could not do.
    troubles: Vec<Error>,
    /// The first key that could not be read.
    unusable: Option<Error>,
    is_password_refused: bool,
}

impl<'a> Login<'a> {
    fn run(&mut self) -> Result<()> {
        // What the server offers, where it was asked.
        let mut offered = None;
        // sshd knows no more methods than these, and takes none twice but the keys.
        for _ in 0..8 {
            match self.round(offered.as_deref())? {
                Verdict::In => return Ok(()),
                Verdict::Step(methods) => offered = Some(methods),
                Verdict::Refused => break,
            }
        }
        let offered = self.methods().unwrap_or_default();
        if self.is_let_in()? {
            return Ok(());
        }
        Err(self.refusal(&offered))
    }

    /// Tells whether the server let in without a proof: to ask what it offers is to ask for that, too. Who has to prove a key
    /// has not done so then.
    fn is_let_in(&mut self) -> Result<bool> {
        Ok(self.host.auth.only_key.is_none() && self.is_authenticated()?)
    }

    fn is_authenticated(&mut self) -> Result<bool> {
        let asked = self.driver.try_step(|link| link.session(|session| Ok(session.authenticated())));
        Ok(asked.map_err(|fault| fault.into_error(Phase::Login, "cannot log in"))?.unwrap_or(false))
    }

    /// Tries what the server offers, in the host's order, until something is taken.
    fn round(&mut self, offered: Option<&[String]>) -> Result<Verdict> {
        let mut offered = offered.map(<[String]>::to_vec);
        for method in &self.host.auth.methods {
            let verdict = match (method, self.secret(*method)) {
                (LoginMethod::PublicKey, _) if may(&offered, PUBLICKEY) => self.with_keys()?,
                (LoginMethod::PublicKey, _) | (_, None) => Verdict::Refused,
                (method, Some(secret)) => self.with_leave(secret, *method, &mut offered)?,
            };
            if verdict != Verdict::Refused {
                return Ok(verdict);
            }
            if self.is_let_in()? {
                return Ok(Verdict::In);
            }
        }
        Ok(Verdict::Refused)
    }

    /// Returns the secret that a method stands or falls with: the password, or the first answer where there is none.
    fn secret(&self, method: LoginMethod) -> Option<&'a Secret> {
        let auth = &self.host.auth;
        let first = auth.answers.first().filter(|_| method == LoginMethod::KeyboardInteractive);
        auth.password.as_ref().or(first.map(|answer| &answer.secret))
    }

    /// Tries a secret, if it may be tried: one that is wrong must not be tried on every host.
    fn with_leave(
        &mut self,
        secret: &'a Secret,
        method: LoginMethod,
        offered: &mut Option<Vec<String>>,
    ) -> Result<Verdict> {
        // Refused as one method it is not tried as the other: asking again may lock the account.
        if self.is_password_refused {
            return Ok(Verdict::Refused);
        }
        // After a refused key: a server that takes only keys must not see a password. Only `password` comes without being
        // asked for.
        if offered.is_none() && (!self.refused.is_empty() || method == LoginMethod::KeyboardInteractive) {
            *offered = Some(self.methods()?).filter(|methods| !methods.is_empty());
            if self.is_let_in()? {
                return Ok(Verdict::In);
            }
        }
        let is_spent = method == LoginMethod::Password && self.steps.iter().any(|step| step == PASSWORD_NAME);
        if is_spent || !may(offered, method.as_str()) {
            return Ok(Verdict::Refused);
        }
        let leave = self.keyring.breakers.enter(&self.host.user, secret, self.budget)?;
        let tried = match method {
            LoginMethod::KeyboardInteractive => self.with_answers(),
            _ => self.with_password(secret, offered),
        };
        match &tried {
            Ok(Verdict::In | Verdict::Step(_)) => leave.accepted(),
            Ok(Verdict::Refused) if self.is_password_refused => leave.refused(),
            // A server that hangs up over it ("Too many authentication failures") has refused it as well.
            Err(error) if error.to_string().contains("authentication") => leave.refused(),
            // It takes no passwords, or failed otherwise: that says nothing about this one.
            Ok(Verdict::Refused) | Err(_) => {}
        }
        tried
    }

    fn with_keys(&mut self) -> Result<Verdict> {
        let (agent, held) = match self.keyring.agent(self.host, self.budget) {
            Ok(Some((agent, held))) => (Some(agent), held),
            Ok(None) => (None, Arc::default()),
            Err(Trouble::Over(error)) => return Err(error),
            Err(Trouble::Agent(error)) => {
                self.troubled(error);
                (None, Arc::default())
            }
        };
        let mut named = Vec::new();
        for path in &self.host.auth.certificates {
            match self.keyring.keys.certificate(path) {
                Ok(certificate) => named.push(certificate),
                Err(error) => self.troubled(error),
            }
        }
        let mut offers: VecDeque<_> = offers(self.host, &self.keyring.keys, &named, &held).into();
        while let Some(offer) = offers.pop_front() {
            if self.steps.contains(&offer.name) {
                continue;
            }
            let tried = match (&offer.signer, &agent) {
                (Signer::Agent(key, _), Some(agent)) => self.by_agent(agent, key, &offer)?,
                (Signer::Key(identity), _) => self.by_key(identity, &offer)?,
                (Signer::Agent(..), None) => Tried::Unsigned,
            };
            match tried {
                Tried::In => return Ok(Verdict::In),
                Tried::Step(methods) => {
                    self.steps.push(offer.name);
                    return Ok(Verdict::Step(methods));
                }
                Tried::Refused => self.refused.push(offer.name),
                Tried::Unsigned => {
                    if let Signer::Agent(_, Some(identity)) = offer.signer {
                        // The key file may do what the agent does not.
                        offers.push_back(Offer { signer: Signer::Key(identity), ..offer });
                    }
                }
            }
        }
        Ok(Verdict::Refused)
    }

    fn by_agent(&mut self, agent: &Agent, key: &AgentKey, offer: &Offer<'_>) -> Result<Tried> {
        let user = &self.host.user;
        let blob = offer.certificate.as_ref().map_or(&key.blob, |certificate| &certificate.blob);
        let mut signing = Signing::default();
        let mut trouble = None;
        let tried = loop {
            match self.driver.try_step(|link| link.userauth_publickey(user, blob, &mut signing)) {
                Err(fault) => break Err(fault),
                Ok(Some(())) => break Ok(()),
                Ok(None) => {}
            }
            match signing.take_wanted() {
                None => self.driver.wait(self.budget)?,
                Some(data) => match agent.sign(key, &data, self.budget) {
                    Ok(signature) => signing.set(Some(signature)),
                    Err(Trouble::Over(error)) => return Err(error),
                    Err(Trouble::Agent(error)) => {
                        trouble = Some(error);
                        // libssh2 has to hear of it, to be ready for another key.
                        signing.set(None);
                    }
                },
            }
        };
        match trouble {
            Some(error) => {
                self.troubled(error);
                // A connection that ended meanwhile is still the end.
                if let Err(Fault::Error(error)) = tried {
                    return Err(error);
                }
                Ok(Tried::Unsigned)
            }
            None => self.judge(tried),
        }
    }

    fn by_key(&mut self, identity: &Identity, offer: &Offer<'_>) -> Result<Tried> {
        let key = match self.keyring.keys.load(identity, self.host.auth.passphrase.as_ref()) {
            Ok(key) => key,
            Err(error) => {
                // Another key or the password may still do.
                self.unusable.get_or_insert(error);
                return Ok(Tried::Unsigned);
            }
        };
        if self.host.auth.only_key.as_ref().is_some_and(|only| only != key.public_blob()) {
            let what = format!("{} is not the private half of the wanted key", offer.name);
            self.unusable.get_or_insert(Error::new(ErrorKind::Usage, what));
            return Ok(Tried::Unsigned);
        }
        let user = &self.host.user;
        let line = offer.certificate.as_ref().map_or(key.public_line(), |certificate| &certificate.line);
        let tried = self.driver.drive(self.budget, |link| {
            link.session(|session| session.userauth_pubkey_memory(user, Some(line), key.private_pem(), None))
        });
        self.judge(tried)
    }

    fn judge(&mut self, tried: Result<(), Fault>) -> Result<Tried> {
        let may_be_step = matches!(&tried, Err(Fault::Refused(failure)) if is_after_signature(failure));
        if is_accepted(tried)? {
            return Ok(Tried::In);
        }
        if may_be_step {
            // libssh2 does not tell a wrong signature from one that was only the first step: the server does.
            let methods = self.methods()?;
            if !methods.is_empty() && !has(&methods, PUBLICKEY) {
                return Ok(Tried::Step(methods));
            }
        }
        Ok(Tried::Refused)
    }

    /// Offers the password as `password`.
    fn with_password(&mut self, password: &'a Secret, offered: &mut Option<Vec<String>>) -> Result<Verdict> {
        let user = &self.host.user;
        let tried = self
            .driver
            .drive(self.budget, |link| link.session(|session| session.userauth_password(user, password.expose())));
        if is_accepted(tried)? {
            return Ok(Verdict::In);
        }
        let methods = self.methods()?;
        // Where `password` is offered, it was the password that was refused.
        if has(&methods, PASSWORD) || methods.is_empty() {
            self.is_password_refused = true;
            self.refused.push(PASSWORD_NAME.to_owned());
            return Ok(Verdict::Refused);
        }
        if offered.is_some() {
            self.steps.push(PASSWORD_NAME.to_owned());
            return Ok(Verdict::Step(methods));
        }
        // It was never offered; keyboard-interactive may be.
        let is_last = !has(&methods, KEYBOARD) || !self.host.auth.methods.contains(&LoginMethod::KeyboardInteractive);
        if is_last {
            self.refused.push(PASSWORD_NAME.to_owned());
        }
        *offered = Some(methods);
        Ok(Verdict::Refused)
    }

    /// Answers the server's questions with the password and what else was collected.
    fn with_answers(&mut self) -> Result<Verdict> {
        let user = &self.host.user;
        let auth = &self.host.auth;
        let mut answers = Answers::new(auth.password.as_ref(), &auth.answers);
        let tried = self.driver.drive(self.budget, |link| {
            link.session(|session| session.userauth_keyboard_interactive(user, &mut answers))
        });
        if is_accepted(tried)? {
            return Ok(Verdict::In);
        }
        let methods = self.methods()?;
        if !methods.is_empty() && !has(&methods, KEYBOARD) && answers.unanswered().is_none() {
            self.steps.push(answers.given());
            return Ok(Verdict::Step(methods));
        }
        self.is_password_refused = true;
        self.refused.push(match answers.unanswered() {
            Some(prompt) => format!("the server asks \"{prompt}\", which nothing answers"),
            None => answers.given(),
        });
        Ok(Verdict::Refused)
    }

    /// Asks which methods the server offers.
    fn methods(&mut self) -> Result<Vec<String>> {
        if self.is_authenticated()? {
            return Ok(Vec::new());
        }
        let user = &self.host.user;
        let asked = self.driver.drive(self.budget, |link| {
            link.session(|session| {
                session.auth_methods(user).map(|methods| methods.split(',').map(str::to_owned).collect())
            })
        });
        match asked {
            Ok(methods) => Ok(methods),
            Err(Fault::Error(error)) => Err(error),
            // No list is no reason to fail: the refusal itself is what is reported.
            Err(Fault::Refused(_)) => Ok(Vec::new()),
        }
    }

    fn troubled(&mut self, error: Error) {
        let what = error.to_string();
        if self.troubles.iter().all(|known| known.to_string() != what) {
            self.troubles.push(error);
        }
    }

    fn refusal(&mut self, offered: &[String]) -> Error {
        if let Some(error) = self.unusable.take()
            && self.refused.is_empty()
            && self.steps.is_empty()
            && self.troubles.is_empty()
        {
            return error.in_phase(Phase::Login);
        }
        let offered = offered.join(", ");
        let user = &self.host.user;
        let (refused, steps) = (self.refused.join(", "), self.steps.join(" and "));
        let mut what = match (self.refused.is_empty(), self.steps.is_empty()) {
            (true, true) => format!("{NOTHING_TO_LOG_IN_WITH} as {user}: no key and no password"),
            (false, true) => format!("login refused for {user}: {refused}"),
            (true, false) => format!("login of {user} needs more than {steps}"),
            (false, false) => format!("login refused for {user} after {steps}: {refused}"),
        };
        if !offered.is_empty() {
            what.push_str(&format!(" (the server offers {offered})"));
        }
        for trouble in &self.troubles {
            what.push_str(&format!("; {}", trouble.chain()));
        }
        Error::new(ErrorKind::Login, what).in_phase(Phase::Login)
    }
}

const PASSWORD_NAME: &str = "the password";

/// Tells whether a method is offered, as far as is known.
fn may(offered: &Option<Vec<String>>, name: &str) -> bool {
    offered.as_deref().is_none_or(|methods| has(methods, name))
}

fn has(methods: &[String], name: &str) -> bool {
    methods.iter().any(|method| method == name)
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
