//! What ssh_config says of a host, as settings: the layer above the built-in values.

use std::path::PathBuf;
use std::time::Duration;

use super::explain::Source;
use super::keywords;
use crate::host::HostKeyPolicy;
use crate::known_hosts::default_files;
use crate::ssh_config::{Effective, Ignored, Keyword, Value};

/// The keywords that are heeded; of the others, and of values without effect, [`Openssh::ignored`] tells.
const HEEDED: [Keyword; 30] = [
    Keyword::HostName,
    Keyword::Port,
    Keyword::User,
    Keyword::IdentityFile,
    Keyword::IdentitiesOnly,
    Keyword::IdentityAgent,
    Keyword::UserKnownHostsFile,
    Keyword::GlobalKnownHostsFile,
    Keyword::StrictHostKeyChecking,
    Keyword::HostKeyAlias,
    Keyword::ConnectTimeout,
    Keyword::ServerAliveInterval,
    Keyword::ServerAliveCountMax,
    Keyword::PasswordAuthentication,
    Keyword::PubkeyAuthentication,
    Keyword::KbdInteractiveAuthentication,
    Keyword::PreferredAuthentications,
    Keyword::CertificateFile,
    Keyword::KexAlgorithms,
    Keyword::HostKeyAlgorithms,
    Keyword::Ciphers,
    Keyword::MACs,
    Keyword::PubkeyAcceptedAlgorithms,
    Keyword::AddressFamily,
    Keyword::BindAddress,
    Keyword::ConnectionAttempts,
    Keyword::SetEnv,
    Keyword::RequestTTY,
    Keyword::LogLevel,
    Keyword::Tag,
];

/// What ssh_config says of one host; nothing where none is read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Openssh<'a>(pub(super) Option<&'a Effective>);

/// A setting and the line it comes from.
pub(super) type Said<T> = (T, Source);

impl<'a> Openssh<'a> {
    pub(super) fn first(self, keyword: Keyword) -> Option<&'a Value> {
        self.0?.first(keyword)
    }

    fn read<T>(self, keyword: Keyword, read: impl Fn(&'a str) -> Option<T>) -> Option<Said<T>> {
        let value = self.first(keyword)?;
        Some((read(&value.text)?, Source::SshConfig(value.origin.clone())))
    }

    pub(super) fn host_name(self) -> Option<Said<String>> {
        self.text(Keyword::HostName)
    }

    pub(super) fn text(self, keyword: Keyword) -> Option<Said<String>> {
        self.read(keyword, |text| Some(text.to_owned()))
    }

    pub(super) fn port(self) -> Option<Said<u16>> {
        self.read(Keyword::Port, |text| text.parse().ok())
    }

    pub(super) fn host_key(self) -> Option<Said<HostKeyPolicy>> {
        self.read(Keyword::StrictHostKeyChecking, |text| {
            Some(match text {
                "yes" => HostKeyPolicy::Strict,
                "no" => HostKeyPolicy::Off,
                _ => HostKeyPolicy::AcceptNew,
            })
        })
    }

    /// Returns the time to connect; 0 is none, as with ssh.
    pub(super) fn connect_timeout(self) -> Option<Said<Duration>> {
        self.read(Keyword::ConnectTimeout, |text| {
            text.parse().ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
        })
    }

    pub(super) fn alive_interval(self) -> Option<Said<Duration>> {
        self.read(Keyword::ServerAliveInterval, |text| text.parse().ok().map(Duration::from_secs))
    }

    pub(super) fn number(self, keyword: Keyword) -> Option<Said<u32>> {
        self.read(keyword, |text| text.parse().ok())
    }

    /// Returns the known_hosts files, the user's first: there new keys are recorded.
    pub(super) fn known_hosts(self) -> Option<Said<Vec<PathBuf>>> {
        let first = self.first(Keyword::UserKnownHostsFile).or(self.first(Keyword::GlobalKnownHostsFile))?;
        let mut built_in = default_files().into_iter();
        let users: Vec<PathBuf> = built_in.next().into_iter().collect();
        let systems: Vec<PathBuf> = built_in.collect();
        // Without a file of the user's nothing is recorded.
        let mut files = self.files(Keyword::UserKnownHostsFile, users);
        if files.is_empty() {
            files.push(PathBuf::from("/dev/null"));
        }
        files.extend(self.files(Keyword::GlobalKnownHostsFile, systems));
        Some((files, Source::SshConfig(first.origin.clone())))
    }

    fn files(self, keyword: Keyword, built_in: Vec<PathBuf>) -> Vec<PathBuf> {
        match self.0.map_or(&[][..], |found| found.all(keyword)) {
            [] => built_in,
            values => values.iter().filter(|value| !is_none(value)).map(|value| PathBuf::from(&value.text)).collect(),
        }
    }

    /// Returns the keys, each with its line; none are configured by `IdentityFile none`.
    pub(super) fn identity(self) -> Option<Said<Vec<(PathBuf, Source)>>> {
        let values = self.0?.all(Keyword::IdentityFile);
        let first = values.first()?;
        let named = values.iter().filter(|value| !is_none(value));
        let keys = named.map(|value| (PathBuf::from(&value.text), Source::SshConfig(value.origin.clone())));
        Some((keys.collect(), Source::SshConfig(first.origin.clone())))
    }

    /// Returns the certificates, each with its line.
    pub(super) fn certificates(self) -> Vec<Said<PathBuf>> {
        let values = self.0.map_or(&[][..], |found| found.all(Keyword::CertificateFile));
        let named = values.iter().filter(|value| !is_none(value));
        named.map(|value| (PathBuf::from(&value.text), Source::SshConfig(value.origin.clone()))).collect()
    }

    /// Tells where a flag is turned on.
    pub(super) fn on(self, keyword: Keyword) -> Option<Source> {
        self.first(keyword).filter(|value| value.text == "yes").map(|value| Source::SshConfig(value.origin.clone()))
    }

    /// Returns the agent: its socket, or `None` inside for none; nothing where the environment's is meant anyway.
    pub(super) fn agent(self) -> Option<Said<Option<PathBuf>>> {
        let value = self.first(Keyword::IdentityAgent).filter(|value| value.text != "SSH_AUTH_SOCK")?;
        let socket = (!is_none(value)).then(|| PathBuf::from(&value.text));
        Some((socket, Source::SshConfig(value.origin.clone())))
    }

    /// Tells where a way to log in is turned off.
    pub(super) fn off(self, keyword: Keyword) -> Option<Source> {
        self.first(keyword).filter(|value| value.text == "no").map(|value| Source::SshConfig(value.origin.clone()))
    }

    /// Returns the bastion or the command that the host is behind.
    pub(super) fn proxy(self) -> Option<(&'static str, &'a Value)> {
        let proxy = |keyword: Keyword| {
            let value = self.first(keyword).filter(|value| !is_none(value))?;
            Some((keyword.as_str(), value))
        };
        proxy(Keyword::ProxyJump).or_else(|| proxy(Keyword::ProxyCommand))
    }

    /// Returns the keywords that have no effect here.
    pub(super) fn ignored(self) -> Vec<Ignored> {
        let Some(found) = self.0 else { return Vec::new() };
        let is_heeded = |keyword: Keyword| {
            HEEDED.contains(&keyword) || matches!(keyword, Keyword::ProxyJump | Keyword::ProxyCommand)
        };
        let kept = found.keywords().flat_map(|keyword| found.all(keyword).iter().map(move |value| (keyword, value)));
        let kept = kept.filter_map(|(keyword, value)| {
            let why = keywords::idle(keyword, value);
            let ignored = Ignored::new(&keyword.as_str().to_lowercase(), value.origin.clone());
            (why.is_some() || !is_heeded(keyword)).then_some(Ignored { why, ..ignored })
        });
        let mut ignored: Vec<Ignored> = kept.chain(found.ignored.iter().cloned()).collect();
        ignored.sort_by(|a, b| a.origin.cmp(&b.origin));
        ignored.dedup();
        ignored
    }
}

fn is_none(value: &Value) -> bool {
    value.raw.eq_ignore_ascii_case("none")
}
