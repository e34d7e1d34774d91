//! The keywords that are kept, and how their arguments are read.

use super::algorithms;

/// A keyword that is kept; all others are only listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "ssh_config(5) describes them")]
pub enum Keyword {
    HostName,
    Port,
    User,
    IdentityFile,
    IdentitiesOnly,
    CertificateFile,
    IdentityAgent,
    ProxyJump,
    ProxyCommand,
    UserKnownHostsFile,
    GlobalKnownHostsFile,
    StrictHostKeyChecking,
    HostKeyAlias,
    HostKeyAlgorithms,
    KexAlgorithms,
    Ciphers,
    MACs,
    ConnectTimeout,
    ConnectionAttempts,
    ServerAliveInterval,
    ServerAliveCountMax,
    PreferredAuthentications,
    PasswordAuthentication,
    PubkeyAuthentication,
    KbdInteractiveAuthentication,
    PubkeyAcceptedAlgorithms,
    AddressFamily,
    BindAddress,
    SetEnv,
    RequestTTY,
    LogLevel,
    Tag,
}

/// How a keyword's arguments are read.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// One word.
    Text,
    Port,
    /// A whole number from 0 on.
    Count,
    /// Seconds, or units: `1h30m`.
    Time,
    /// One of the words on the left; kept is the one on the right.
    Choice(&'static [(&'static str, &'static str)]),
    /// One or more words, the first line wins.
    List,
    /// One or more `NAME=VALUE`, the first line wins.
    Assignments,
    /// A list of algorithms, with `+`, `-` or `^` before it.
    Algorithms,
    /// The rest of the line.
    Rest,
    Jump,
}

const YES_NO: [(&str, &str); 4] = [("yes", "yes"), ("true", "yes"), ("no", "no"), ("false", "no")];
const FLAG: Form = Form::Choice(&YES_NO);

const TABLE: [(Keyword, &str, Form); 32] = [
    (Keyword::HostName, "HostName", Form::Text),
    (Keyword::Port, "Port", Form::Port),
    (Keyword::User, "User", Form::Text),
    (Keyword::IdentityFile, "IdentityFile", Form::Text),
    (Keyword::IdentitiesOnly, "IdentitiesOnly", FLAG),
    (Keyword::CertificateFile, "CertificateFile", Form::Text),
    (Keyword::IdentityAgent, "IdentityAgent", Form::Text),
    (Keyword::ProxyJump, "ProxyJump", Form::Jump),
    (Keyword::ProxyCommand, "ProxyCommand", Form::Rest),
    (Keyword::UserKnownHostsFile, "UserKnownHostsFile", Form::List),
    (Keyword::GlobalKnownHostsFile, "GlobalKnownHostsFile", Form::List),
    (
        Keyword::StrictHostKeyChecking,
        "StrictHostKeyChecking",
        Form::Choice(&[
            ("yes", "yes"),
            ("true", "yes"),
            ("no", "no"),
            ("false", "no"),
            ("off", "no"),
            ("ask", "ask"),
            ("accept-new", "accept-new"),
        ]),
    ),
    (Keyword::HostKeyAlias, "HostKeyAlias", Form::Text),
    (Keyword::HostKeyAlgorithms, "HostKeyAlgorithms", Form::Algorithms),
    (Keyword::KexAlgorithms, "KexAlgorithms", Form::Algorithms),
    (Keyword::Ciphers, "Ciphers", Form::Algorithms),
    (Keyword::MACs, "MACs", Form::Algorithms),
    (Keyword::ConnectTimeout, "ConnectTimeout", Form::Time),
    (Keyword::ConnectionAttempts, "ConnectionAttempts", Form::Count),
    (Keyword::ServerAliveInterval, "ServerAliveInterval", Form::Time),
    (Keyword::ServerAliveCountMax, "ServerAliveCountMax", Form::Count),
    (Keyword::PreferredAuthentications, "PreferredAuthentications", Form::Text),
    (Keyword::PasswordAuthentication, "PasswordAuthentication", FLAG),
    (
        Keyword::PubkeyAuthentication,
        "PubkeyAuthentication",
        Form::Choice(&[
            ("yes", "yes"),
            ("true", "yes"),
            ("no", "no"),
            ("false", "no"),
            ("unbound", "unbound"),
            ("host-bound", "host-bound"),
        ]),
    ),
    (Keyword::KbdInteractiveAuthentication, "KbdInteractiveAuthentication", FLAG),
    (Keyword::PubkeyAcceptedAlgorithms, "PubkeyAcceptedAlgorithms", Form::Algorithms),
    (Keyword::AddressFamily, "AddressFamily", Form::Choice(&[("inet", "inet"), ("inet6", "inet6"), ("any", "any")])),
    (Keyword::BindAddress, "BindAddress", Form::Text),
    (Keyword::SetEnv, "SetEnv", Form::Assignments),
    (
        Keyword::RequestTTY,
        "RequestTTY",
        Form::Choice(&[
            ("yes", "yes"),
            ("true", "yes"),
            ("no", "no"),
            ("false", "no"),
            ("force", "force"),
            ("auto", "auto"),
        ]),
    ),
    (
        Keyword::LogLevel,
        "LogLevel",
        Form::Choice(&[
            ("quiet", "QUIET"),
            ("silent", "QUIET"),
            ("fatal", "FATAL"),
            ("error", "ERROR"),
            ("info", "INFO"),
            ("verbose", "VERBOSE"),
            ("debug", "DEBUG"),
            ("debug1", "DEBUG"),
            ("debug2", "DEBUG2"),
            ("debug3", "DEBUG3"),
        ]),
    ),
    (Keyword::Tag, "Tag", Form::Text),
];

impl Keyword {
    /// Every keyword that is kept.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|(keyword, ..)| *keyword)
    }

    /// Returns the keyword as ssh_config(5) writes it.
    pub fn as_str(self) -> &'static str {
        TABLE.iter().find(|(keyword, ..)| *keyword == self).map_or("", |(_, name, _)| name)
    }

    /// Finds a keyword by its name in lower case.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        // What older versions call them (readconf.c).
        let name = match name {
            "challengeresponseauthentication" => "kbdinteractiveauthentication",
            "pubkeyacceptedkeytypes" => "pubkeyacceptedalgorithms",
            name => name,
        };
        TABLE.iter().find(|(_, known, _)| known.eq_ignore_ascii_case(name)).map(|(keyword, ..)| *keyword)
    }

    /// Tells whether every line adds to it, instead of the first one holding.
    pub(super) fn accumulates(self) -> bool {
        matches!(self, Self::IdentityFile | Self::CertificateFile)
    }

    /// Reads the arguments into values; no values leave the keyword unset.
    ///
    /// # Errors
    ///
    /// What is wrong, as a fragment.
    pub(super) fn read(self, rest: &str, words: Vec<String>) -> Result<Vec<String>, String> {
        let name = self.as_str();
        let form = TABLE.iter().find(|(keyword, ..)| *keyword == self).map_or(Form::Text, |(.., form)| *form);
        if let Form::Rest | Form::Jump = form {
            let rest = rest.trim_start_matches([' ', '\t', '\r', '\n', '=']);
            return if let Form::Jump = form { jump(rest) } else { Ok(vec![rest.to_owned()]) };
        }
        if words.first().is_none_or(String::is_empty) {
            return Err(format!("{name} needs an argument"));
        }
        match form {
            Form::List => {
                if words.iter().any(String::is_empty) {
                    return Err(format!("{name} has an empty argument"));
                }
                if words.len() > 1 && words.iter().any(|word| word.eq_ignore_ascii_case("none")) {
                    return Err(format!("{name}: \"none\" stands alone"));
                }
                return Ok(words);
            }
            Form::Assignments => {
                return match words.iter().find(|word| !word.contains('=')) {
                    Some(word) => Err(format!("{name}: \"{word}\" is not NAME=VALUE")),
                    None => Ok(words),
                };
            }
            _ => {}
        }
        let mut words = words.into_iter();
        let word = words.next().unwrap_or_default();
        if let Some(extra) = words.next() {
            return Err(format!("{name} takes one argument: \"{extra}\" is one too many"));
        }
        match form {
            Form::Port => port(&word).map(|port| vec![port.to_string()]),
            Form::Count => match word.parse::<i32>() {
                Ok(count) if count >= 0 => Ok(vec![count.to_string()]),
                _ => Err(format!("{name}: \"{word}\" is no whole number")),
            },
            Form::Time if word == "none" => Ok(Vec::new()),
            Form::Time => match seconds(&word) {
                Some(seconds) => Ok(vec![seconds.to_string()]),
                None => Err(format!("{name}: \"{word}\" is no time")),
            },
            Form::Choice(choices) => match choices.iter().find(|(choice, _)| choice.eq_ignore_ascii_case(&word)) {
                Some((_, kept)) => Ok(vec![(*kept).to_owned()]),
                None => Err(format!("{name}: \"{word}\" is not one of {}", list(choices))),
            },
            Form::Algorithms => match algorithms::check(&word) {
                Ok(()) => Ok(vec![word]),
                Err(what) => Err(format!("{name}: {what}")),
            },
            _ => Ok(vec![word]),
        }
    }
}

fn list(choices: &[(&str, &str)]) -> String {
    choices.iter().map(|(choice, _)| *choice).collect::<Vec<_>>().join(", ")
}

fn port(word: &str) -> Result<u16, String> {
    match word.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ if word == "ssh" => Ok(22),
        _ => Err(format!("\"{word}\" is no port: expected 1 to 65535")),
    }
}

/// Reads `none` or a chain of `[user@]host[:port]`; the comment behind it is cut off.
fn jump(rest: &str) -> Result<Vec<String>, String> {
    let jump = rest.split('#').next().unwrap_or_default().trim_end();
    let is_bad = |hop: &str| {
        let host = hop.rsplit_once('@').map_or(hop, |(_, host)| host);
        host.is_empty() || host.starts_with(':') || hop.contains([' ', '\t', '"', '\''])
    };
    match jump.split(',').find(|hop| is_bad(hop)) {
        Some(hop) => Err(format!("ProxyJump: \"{hop}\" is no bastion")),
        None => Ok(vec![jump.to_owned()]),
    }
}

/// Reads a time as sshd_config(5) describes under TIME FORMATS.
fn seconds(word: &str) -> Option<u32> {
    let mut total: u32 = 0;
    let mut rest = word;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, unit) = rest.split_at_checked(end)?;
        let mut chars = unit.chars();
        let factor = match chars.next().map(|c| c.to_ascii_lowercase()) {
            None | Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3_600,
            Some('d') => 86_400,
            Some('w') => 604_800,
            Some(_) => return None,
        };
        total = total.checked_add(digits.parse::<u32>().ok()?.checked_mul(factor)?)?;
        rest = chars.as_str();
    }
    (total <= i32::MAX.unsigned_abs()).then_some(total)
}
