//! Settings that only ssh_config has words for: from its lines straight into the host.

use super::explain::Source;
use super::openssh::{Openssh, Said};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{AddressFamily, Host, LoginMethod};
use crate::ssh_config::algorithms::{CIPHERS, HOST_KEYS, KEX, MACS, SIGNATURES, assemble};
use crate::ssh_config::{Keyword, Value};

/// Is told of each setting: its name, its value and where it comes from.
pub(super) type Note<'a> = &'a mut dyn FnMut(&'static str, &str, Source);

impl Openssh<'_> {
    /// Takes over what ssh_config says of the connection.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Usage`], with file and line: algorithms of which fleet has none.
    pub(super) fn connection(self, host: &mut Host, note: Note<'_>) -> Result<()> {
        self.algorithms(host, note)?;
        if let Some((family, source)) = self.text(Keyword::AddressFamily) {
            host.address_family = AddressFamily::from_name(&family).unwrap_or_default();
            note("address_family", &family, source);
        } else {
            note("address_family", "any", Source::BuiltIn);
        }
        if let Some((address, source)) = self.text(Keyword::BindAddress) {
            note("bind_address", &address, source);
            host.bind_address = Some(address);
        } else {
            note("bind_address", "none", Source::BuiltIn);
        }
        if let Some((attempts, source)) = self.number(Keyword::ConnectionAttempts) {
            note("connection_attempts", &attempts.to_string(), source);
            host.connection_attempts = attempts;
        } else {
            note("connection_attempts", &host.connection_attempts.to_string(), Source::BuiltIn);
        }
        if let Some((pairs, source)) = self.environment() {
            let shown: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            note("set_env", &shown.join(" "), source);
            host.env = pairs;
        } else {
            note("set_env", "none", Source::BuiltIn);
        }
        Ok(())
    }

    fn algorithms(self, host: &mut Host, note: Note<'_>) -> Result<()> {
        let algorithms = &mut host.algorithms;
        let lists: [(_, _, &[&str], _); 5] = [
            (Keyword::KexAlgorithms, "kex_algorithms", &KEX, &mut algorithms.key_exchange),
            (Keyword::HostKeyAlgorithms, "host_key_algorithms", &HOST_KEYS, &mut algorithms.host_key),
            (Keyword::Ciphers, "ciphers", &CIPHERS, &mut algorithms.ciphers),
            (Keyword::MACs, "macs", &MACS, &mut algorithms.macs),
            (Keyword::PubkeyAcceptedAlgorithms, "pubkey_algorithms", &SIGNATURES, &mut algorithms.signatures),
        ];
        for (keyword, name, known, list) in lists {
            let Some(value) = self.first(keyword) else {
                note(name, "all that are supported", Source::BuiltIn);
                continue;
            };
            let left = assemble(&value.text, known, known);
            if left.is_empty() {
                let what = format!("leaves nothing that is supported: there are {}", known.join(", "));
                return Err(bad(keyword, value, &what));
            }
            note(name, &left.join(","), Source::SshConfig(value.origin.clone()));
            *list = left.into_iter().map(str::to_owned).collect();
        }
        Ok(())
    }

    fn environment(self) -> Option<Said<Vec<(String, String)>>> {
        let values = self.0?.all(Keyword::SetEnv);
        let source = Source::SshConfig(values.first()?.origin.clone());
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in values.iter().filter_map(|value| value.text.split_once('=')) {
            // Of a name that stands there twice the first one holds, as with ssh.
            if pairs.iter().all(|(known, _)| known != name) {
                pairs.push((name.to_owned(), value.to_owned()));
            }
        }
        Some((pairs, source))
    }

    /// Returns what may be tried to log in, and in which order: what `PreferredAuthentications` says, without what is
    /// turned off. Methods that fleet does not have are passed over.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Usage`], with file and line: nothing is left.
    pub(super) fn methods(self, note: Note<'_>) -> Result<Methods> {
        let preferred = self.first(Keyword::PreferredAuthentications);
        let mut list = match preferred {
            Some(value) => {
                let mut list: Vec<LoginMethod> = Vec::new();
                for method in value.text.split(',').filter_map(LoginMethod::from_name) {
                    if !list.contains(&method) {
                        list.push(method);
                    }
                }
                if list.is_empty() {
                    let names = LoginMethod::ALL.map(LoginMethod::as_str).join(", ");
                    let what = format!("leaves no way to log in: there are {names}");
                    return Err(bad(Keyword::PreferredAuthentications, value, &what));
                }
                list
            }
            None => LoginMethod::ALL.to_vec(),
        };
        let mut off: Vec<(_, _, Source)> = Vec::new();
        for (method, keyword) in SWITCHES {
            if let Some(source) = self.off(keyword) {
                list.retain(|listed| *listed != method);
                off.push((method, format!("{} no", keyword.as_str()), source));
            } else if let Some(value) = preferred.filter(|_| !list.contains(&method)) {
                let source = Source::SshConfig(value.origin.clone());
                off.push((method, format!("PreferredAuthentications {}", value.raw), source));
            }
        }
        let source = preferred.map(|value| Source::SshConfig(value.origin.clone()));
        let source = source.or_else(|| off.first().map(|(.., source)| source.clone())).unwrap_or(Source::BuiltIn);
        let shown: Vec<_> = list.iter().map(|method| method.as_str()).collect();
        note("auth_methods", &if shown.is_empty() { "none".to_owned() } else { shown.join(",") }, source);
        Ok(Methods { list, off })
    }
}

const SWITCHES: [(LoginMethod, Keyword); 3] = [
    (LoginMethod::PublicKey, Keyword::PubkeyAuthentication),
    (LoginMethod::Password, Keyword::PasswordAuthentication),
    (LoginMethod::KeyboardInteractive, Keyword::KbdInteractiveAuthentication),
];

/// What may be tried to log in.
#[derive(Debug)]
pub(super) struct Methods {
    pub(super) list: Vec<LoginMethod>,
    /// What may not, and which line says so.
    off: Vec<(LoginMethod, String, Source)>,
}

impl Methods {
    /// Tells which line turns keys off.
    pub(super) fn no_keys(&self) -> Option<(String, Source)> {
        self.without(&[LoginMethod::PublicKey])
    }

    /// Tells which line leaves no use for a password.
    pub(super) fn no_password(&self) -> Option<(String, Source)> {
        self.without(&[LoginMethod::Password, LoginMethod::KeyboardInteractive])
    }

    /// Tells which line leaves nobody to answer.
    pub(super) fn no_answers(&self) -> Option<(String, Source)> {
        self.without(&[LoginMethod::KeyboardInteractive])
    }

    fn without(&self, methods: &[LoginMethod]) -> Option<(String, Source)> {
        if methods.iter().any(|method| self.list.contains(method)) {
            return None;
        }
        let (_, why, source) = self.off.iter().find(|(method, ..)| methods.contains(method))?;
        Some((format!("{why}, {source}"), source.clone()))
    }
}

/// Tells why a line of a keyword that is heeded otherwise has no effect.
pub(super) fn idle(keyword: Keyword, value: &Value) -> Option<&'static str> {
    match (keyword, &*value.text) {
        (Keyword::RequestTTY, "yes" | "force") => Some("commands get a terminal with --pty alone"),
        (Keyword::LogLevel, level) if level != "INFO" => Some("use -q or -v"),
        _ => None,
    }
}

fn bad(keyword: Keyword, value: &Value, what: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("{}: {} {} {what}", value.origin, keyword.as_str(), value.raw))
}
