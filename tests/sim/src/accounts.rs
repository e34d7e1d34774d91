//! Who may log in: the decisions of one connection.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use russh::keys::PublicKey;
use russh::server::Auth;
use russh::{MethodKind, MethodSet};

use crate::config::{Logins, Method};
use crate::stats::Tally;

/// [`Logins`] with its keys read.
#[derive(Debug)]
pub(crate) struct Accounts {
    users: BTreeMap<String, Account>,
    offered: Vec<Method>,
    all_required: bool,
    code: Option<String>,
    unasked: bool,
    is_code_with_password: bool,
}

#[derive(Debug)]
struct Account {
    password: Option<String>,
    keys: Vec<PublicKey>,
}

impl Accounts {
    pub(crate) fn new(logins: &Logins) -> io::Result<Self> {
        let mut users = BTreeMap::new();
        for (name, user) in &logins.users {
            let keys = user
                .keys
                .iter()
                .map(|line| PublicKey::from_openssh(line))
                .collect::<Result<_, _>>()
                .map_err(io::Error::other)?;
            let password = user.password.clone();
            users.insert(name.clone(), Account { password, keys });
        }
        Ok(Self {
            users,
            offered: logins.offered(),
            all_required: logins.all_required,
            code: logins.code.clone(),
            unasked: logins.unasked,
            is_code_with_password: logins.is_code_with_password,
        })
    }

    /// The methods that a client is told of.
    pub(crate) fn methods(&self) -> MethodSet {
        method_set(&self.offered)
    }
}

fn method_set(methods: &[Method]) -> MethodSet {
    let kinds: Vec<MethodKind> = methods
        .iter()
        .map(|method| match method {
            Method::PublicKey => MethodKind::PublicKey,
            Method::Password => MethodKind::Password,
            Method::KeyboardInteractive => MethodKind::KeyboardInteractive,
        })
        .collect();
    MethodSet::from(kinds.as_slice())
}

/// Where a keyboard-interactive dialogue stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    Password,
    Code,
    Both,
    /// PAM ends a dialogue that succeeded with a request without questions.
    Done,
}

/// The login of one connection.
#[derive(Debug)]
pub(crate) struct Login {
    user: String,
    passed: Vec<Method>,
    asked: Asked,
    tally: Tally,
}

impl Login {
    pub(crate) fn new(tally: Tally) -> Self {
        Self { user: String::new(), passed: Vec::new(), asked: Asked::Nothing, tally }
    }

    /// The name that logs in.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    fn begin(&mut self, user: &str) {
        if self.user != user {
            user.clone_into(&mut self.user);
            self.passed.clear();
        }
    }

    fn verdict(&mut self, accounts: &Accounts, method: Method, ok: bool) -> Auth {
        let offered = accounts.offered.contains(&method) && !self.passed.contains(&method);
        let ok = ok && offered;
        self.tally.login(method, ok);
        if ok {
            self.passed.push(method);
            if !accounts.all_required || self.passed.len() == accounts.offered.len() {
                return Auth::Accept;
            }
        }
        self.refusal(accounts, ok)
    }

    /// A refusal with the methods that are left.
    pub(crate) fn refusal(&self, accounts: &Accounts, partial_success: bool) -> Auth {
        let left: Vec<Method> =
            accounts.offered.iter().filter(|method| !self.passed.contains(method)).copied().collect();
        Auth::Reject { proceed_with_methods: Some(method_set(&left)), partial_success }
    }

    /// A name, and nothing to prove it.
    pub(crate) fn none(&mut self, accounts: &Accounts, user: &str) -> Auth {
        if accounts.unasked && accounts.users.contains_key(user) {
            self.begin(user);
            return Auth::Accept;
        }
        self.refusal(accounts, false)
    }

    pub(crate) fn password(&mut self, accounts: &Accounts, user: &str, password: &str) -> Auth {
        self.begin(user);
        let ok = accounts.users.get(user).is_some_and(|account| account.password.as_deref() == Some(password));
        self.verdict(accounts, Method::Password, ok)
    }

    fn knows(accounts: &Accounts, user: &str, key: &PublicKey) -> bool {
        accounts.offered.contains(&Method::PublicKey)
            && accounts
                .users
                .get(user)
                .is_some_and(|account| account.keys.iter().any(|known| known.key_data() == key.key_data()))
    }

    /// A key without a signature: would it do?
    pub(crate) fn offered(&mut self, accounts: &Accounts, user: &str, key: &PublicKey) -> Auth {
        self.begin(user);
        if Self::knows(accounts, user, key) { Auth::Accept } else { self.verdict(accounts, Method::PublicKey, false) }
    }

    /// A key whose signature was verified.
    pub(crate) fn key(&mut self, accounts: &Accounts, user: &str, key: &PublicKey) -> Auth {
        self.begin(user);
        let ok = Self::knows(accounts, user, key);
        self.verdict(accounts, Method::PublicKey, ok)
    }

    /// One step of keyboard-interactive; `answers` is `None` at its start.
    pub(crate) fn keyboard(&mut self, accounts: &Accounts, user: &str, answers: Option<&[Bytes]>) -> Auth {
        self.begin(user);
        if !accounts.offered.contains(&Method::KeyboardInteractive) {
            return self.verdict(accounts, Method::KeyboardInteractive, false);
        }
        let password = accounts.users.get(user).and_then(|account| account.password.as_deref());
        let code = accounts.code.as_deref();
        let right = |expected: &[Option<&str>]| {
            let given = answers.unwrap_or_default();
            given.len() == expected.len()
                && given.iter().zip(expected).all(|(given, expected)| Some(&**given) == expected.map(str::as_bytes))
        };
        let next = match (self.asked, answers) {
            (Asked::Nothing, _) | (_, None) if accounts.is_code_with_password => Some(Asked::Both),
            (Asked::Nothing, _) | (_, None) => Some(Asked::Password),
            (Asked::Password, _) if right(&[password]) => match code {
                Some(_) => Some(Asked::Code),
                None => Some(Asked::Done),
            },
            (Asked::Code, _) if right(&[code]) => Some(Asked::Done),
            (Asked::Both, _) if right(&[password, code]) => Some(Asked::Done),
            (Asked::Done, _) => {
                self.asked = Asked::Nothing;
                return self.verdict(accounts, Method::KeyboardInteractive, true);
            }
            (Asked::Password | Asked::Code | Asked::Both, _) => None,
        };
        match next {
            Some(step) => {
                self.asked = step;
                question(step)
            }
            None => {
                self.asked = Asked::Nothing;
                self.verdict(accounts, Method::KeyboardInteractive, false)
            }
        }
    }
}

fn question(step: Asked) -> Auth {
    const BOTH: &[(Cow<'static, str>, bool)] =
        &[(Cow::Borrowed("Password: "), false), (Cow::Borrowed("Verification code: "), false)];
    let (password, code) = BOTH.split_at(1);
    Auth::Partial {
        name: Cow::Borrowed(""),
        instructions: Cow::Borrowed(""),
        prompts: Cow::Borrowed(match step {
            Asked::Password => password,
            Asked::Code => code,
            Asked::Both => BOTH,
            Asked::Nothing | Asked::Done => &[],
        }),
    }
}
