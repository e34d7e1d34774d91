//! Scenario files: groups of hosts in TOML.

use std::path::Path;

use serde::Deserialize;

use crate::config::{Canned, HostPlan, Logins, Method, Mode, Repeated, SimConfig};
use crate::faults::{Fault, parse_duration};
use crate::keys::KeyKind;

/// A scenario file.
///
/// ```
/// let scenario = fleet_sim::Scenario::parse(
///     r#"
///     seed = 7
///     [[hosts]]
///     count = 20
///     name = "web[..].example.com"
///     [[hosts]]
///     count = 2
///     name = "old"
///     mode = "canned"
///     stdout = "hello\n"
///     times = 1000
///     fault = "cut-output:64KiB"
///     rtt = "100ms"
///     "#,
/// )?;
/// let config = scenario.config(&fleet_sim::Logins::password("ops", "secret"))?;
/// assert_eq!(config.hosts.len(), 22);
/// assert_eq!(config.hosts[0].name.as_deref(), Some("web01.example.com"));
/// assert_eq!(config.hosts[21].name.as_deref(), Some("old2"));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The seed of the host keys.
    #[serde(default)]
    pub seed: u64,
    /// Groups of equal hosts.
    #[serde(default)]
    hosts: Vec<Group>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(default = "one")]
    count: usize,
    /// A name with `[..]` where the number goes, or a prefix; alone it stays as it is.
    name: String,
    #[serde(default)]
    mode: ModeName,
    /// Canned output, `times` over.
    stdout: Option<String>,
    times: Option<u64>,
    stderr: Option<String>,
    exit: Option<u32>,
    /// How long a canned command seems to run.
    takes: Option<String>,
    fault: Option<String>,
    rtt: Option<String>,
    banner: Option<String>,
    max_startups: Option<usize>,
    max_sessions: Option<usize>,
    /// The methods offered, instead of those that the logins imply.
    #[serde(default)]
    methods: Vec<MethodName>,
    #[serde(default)]
    host_keys: Vec<KeyName>,
}

fn one() -> usize {
    1
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ModeName {
    #[default]
    Shell,
    Canned,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum MethodName {
    #[serde(rename = "publickey")]
    PublicKey,
    Password,
    KeyboardInteractive,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum KeyName {
    #[serde(rename = "ed25519")]
    Ed25519,
    #[serde(rename = "ecdsa")]
    Ecdsa,
    #[serde(rename = "rsa")]
    Rsa,
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// A message that says what is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// Reads a scenario file.
    ///
    /// # Errors
    /// A message that names the file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, String> {
        let path = path.as_ref();
        let named = |error: String| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
        Self::parse(&text).map_err(named)
    }

    /// The hosts, with these logins.
    ///
    /// # Errors
    /// A message that names the group with an unknown fault or a malformed duration.
    pub fn config(&self, logins: &Logins) -> Result<SimConfig, String> {
        let mut plans = Vec::new();
        for group in &self.hosts {
            let plan = group.plan(logins).map_err(|error| format!("hosts {}: {error}", group.name))?;
            plans.extend(group.names().map(|name| plan.clone().name(name)));
        }
        Ok(SimConfig::of(plans).seed(self.seed))
    }
}

impl Group {
    fn plan(&self, logins: &Logins) -> Result<HostPlan, String> {
        let mut plan = HostPlan::new().logins(logins.clone());
        plan.mode = match self.mode {
            ModeName::Shell => Mode::Shell,
            ModeName::Canned => Mode::Canned(self.canned()?),
        };
        plan.fault = self.fault.as_deref().map(str::parse::<Fault>).transpose()?;
        plan.rtt = self.rtt.as_deref().map(parse_duration).transpose()?;
        plan.banner.clone_from(&self.banner);
        plan.max_startups = self.max_startups;
        plan.max_sessions = self.max_sessions.unwrap_or(plan.max_sessions);
        plan.logins.methods = self.methods.iter().map(|name| (*name).into()).collect();
        if !self.host_keys.is_empty() {
            plan.host_keys = self.host_keys.iter().map(|name| (*name).into()).collect();
        }
        Ok(plan)
    }

    fn canned(&self) -> Result<Canned, String> {
        let stdout = self.stdout.clone().unwrap_or_default();
        Ok(Canned {
            stdout: Repeated { bytes: stdout.into_bytes(), times: self.times.unwrap_or(1) },
            stderr: Repeated::once(self.stderr.clone().unwrap_or_default()),
            exit: self.exit.unwrap_or(0),
            delay: self.takes.as_deref().map(parse_duration).transpose()?,
        })
    }

    fn names(&self) -> impl Iterator<Item = String> {
        let (head, tail) = self.name.split_once("[..]").unwrap_or((&self.name, ""));
        let alone = self.count == 1 && !self.name.contains("[..]");
        let width = self.count.to_string().len();
        (1..=self.count).map(
            move |number| {
                if alone { head.to_owned() } else { format!("{head}{number:0width$}{tail}") }
            },
        )
    }
}

impl From<MethodName> for Method {
    fn from(name: MethodName) -> Self {
        match name {
            MethodName::PublicKey => Self::PublicKey,
            MethodName::Password => Self::Password,
            MethodName::KeyboardInteractive => Self::KeyboardInteractive,
        }
    }
}

impl From<KeyName> for KeyKind {
    fn from(name: KeyName) -> Self {
        match name {
            KeyName::Ed25519 => Self::Ed25519,
            KeyName::Ecdsa => Self::EcdsaP256,
            KeyName::Rsa => Self::Rsa2048,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_fault_names_its_group() {
        let scenario = Scenario::parse("[[hosts]]\nname = 'x'\nfault = 'nonsense'").unwrap();
        let error = scenario.config(&Logins::default()).unwrap_err();
        assert!(error.starts_with("hosts x: unknown fault nonsense"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = Scenario::parse("[[hosts]]\nname = 'x'\nfalut = 'silent'").unwrap_err();
        assert!(error.contains("falut"), "{error}");
    }
}
