//! How to log in: keys, agents, passwords, and in which order.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Secret;

/// A private key to log in with.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Identity {
    /// A key file in OpenSSH, PKCS#1 or PKCS#8 form, encrypted or not; read and decrypted once per run. Where an agent
    /// has the key, it is not read; its public half (`PATH.pub`) will do as well then. A user certificate beside it
    /// (`PATH-cert.pub`) is offered before the key, unless it has expired or others are [named](Auth::certificates).
    File(PathBuf),
    /// The text of such a file.
    Memory(Secret),
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Memory(_) => f.write_str("Memory(…)"),
        }
    }
}

/// Whether an SSH agent signs for logins (OpenSSH's `IdentityAgent` and `IdentitiesOnly`).
///
/// Every agent is asked once a run what keys it has; it never sees a password or a passphrase.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AgentUse {
    /// No agent is asked. The default.
    #[default]
    Off,
    /// The agent at this Unix socket: for identities whose key it has, then its other keys.
    On(PathBuf),
    /// The agent at this Unix socket, only for identities whose key it has.
    OnlyConfigured(PathBuf),
}

impl AgentUse {
    /// Returns the agent's socket.
    pub fn socket(&self) -> Option<&Path> {
        match self {
            Self::Off => None,
            Self::On(path) | Self::OnlyConfigured(path) => Some(path),
        }
    }
}

/// A way to log in (RFC 4252, RFC 4256).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LoginMethod {
    /// `publickey`: keys, certificates and the agent.
    PublicKey,
    /// `password`
    Password,
    /// `keyboard-interactive`: the password and the other answers to the server's questions.
    KeyboardInteractive,
}

impl LoginMethod {
    /// Every method, in the order in which they are tried unless something else is said.
    pub const ALL: [Self; 3] = [Self::PublicKey, Self::Password, Self::KeyboardInteractive];

    /// Returns the name that RFC 4252 and RFC 4256 give it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PublicKey => "publickey",
            Self::Password => "password",
            Self::KeyboardInteractive => "keyboard-interactive",
        }
    }

    /// Finds a method by that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == name)
    }
}

/// What one question of a `keyboard-interactive` login (RFC 4256 section 3.2) is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// A piece of the question, in upper or lower case: `verification code`.
    pub question: String,
    /// The answer, given once a login.
    pub secret: Secret,
}

impl Answer {
    /// Makes the answer to the questions that a piece of text stands in.
    pub fn new(question: impl Into<String>, secret: Secret) -> Self {
        Self { question: question.into(), secret }
    }
}

/// How to log in: identities that an agent has, the agent's other keys, the other identities, then the password.
///
/// Where the server wants several methods one after the other, each is used in its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Auth {
    /// Private keys, in the order they are offered.
    pub identities: Vec<Identity>,
    /// User certificates, each offered before the key that it is for, whether an identity or the agent has that
    /// (OpenSSH's `CertificateFile`). Empty, the default, means those beside the identities.
    pub certificates: Vec<PathBuf>,
    /// Whether an SSH agent signs. Default: none is asked.
    pub agent: AgentUse,
    /// The password, also for servers that only offer keyboard-interactive.
    pub password: Option<Secret>,
    /// Answers to other questions of keyboard-interactive than the one for the password, the first that fits: one-time
    /// codes, PINs. Default: none.
    pub answers: Vec<Answer>,
    /// The passphrase of encrypted identities.
    pub passphrase: Option<Secret>,
    /// What is tried, in this order (OpenSSH's `PreferredAuthentications`); nothing else is. Default: [`LoginMethod::ALL`].
    pub methods: Vec<LoginMethod>,
    /// The one public key to log in with, as SSH sends it (RFC 4253 section 6.6): of the identities and the agent's keys no
    /// other is offered, and no certificate. Default: any.
    pub only_key: Option<Vec<u8>>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            identities: Vec::new(),
            certificates: Vec::new(),
            agent: AgentUse::default(),
            password: None,
            answers: Vec::new(),
            passphrase: None,
            methods: LoginMethod::ALL.to_vec(),
            only_key: None,
        }
    }
}
