//! Reading the values of an inventory, with errors that name file, line and key.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::build::{Files, Lines};
use super::layer::{KEYS, Kind, Layer, Place};
use super::secret::{SECRET_FORMS, expand_home};
use super::spelling::did_you_mean;
use crate::duration::parse_duration;
use crate::error::{Error, ErrorKind, Result};
use crate::host::{BecomeBy, HostKeyPolicy, Secret, SecretRef, Var};

/// A value and where it stands.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// The text being read.
#[derive(Debug)]
pub(super) struct Source<'t> {
    path: &'t Path,
    lines: Lines,
    text: &'t str,
    /// The place of the text's first character among all files.
    base: usize,
}

/// A key of a table and its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting<'t> {
    pub(super) place: Place<'t>,
    pub(super) key: &'static str,
    pub(super) value: &'t Value<'t>,
}

/// A table's own keys, kept for the reader of hosts and groups.
pub(super) type OwnKeys<'t> = Vec<Setting<'t>>;

/// What other programs call fleet's keys.
const CALLED: &[(&[&str], &str)] = &[
    (&["host", "hostname", "host_name", "ip", "addr", "ansible_host"], "address"),
    (&["username", "login", "remote_user", "ansible_user"], "user"),
    (&["pass", "passwd", "ansible_password"], "password"),
    (&["private_key", "key_file", "keyfile", "key_path", "identity_file", "ssh_key"], "identity"),
    (&["proxy", "proxyjump", "proxy_jump", "bastion", "gateway", "via"], "jump"),
    (&["timeout"], "connect_timeout"),
    (&["sudo"], "become"),
    (&["members", "nodes"], "hosts"),
    (&["tags", "group", "roles"], "groups"),
    (&["variables", "env"], "vars"),
];

/// Says how what stands in a table's place is written.
fn meant(name: &str, value: &DeValue<'_>) -> String {
    let short = |kind: &str| name.strip_prefix(kind).and_then(|rest| rest.strip_suffix(']'));
    if let (Some(group), true) = (short("[groups."), value.is_array()) {
        return format!(": write {group} = {{ hosts = […] }}");
    }
    match short("[hosts.") {
        Some(host) if value.is_str() => format!(": write {host} = {{ address = … }}"),
        _ if name == "[hosts]" && value.is_array() => ": write [groups.NAME] and hosts = […] below it".to_owned(),
        _ => String::new(),
    }
}

impl<'t> Source<'t> {
    pub(super) fn new(text: &'t str, path: &'t Path, files: &mut Files) -> Self {
        let lines = Lines::new(text);
        let base = files.add(path, lines.clone(), text.len());
        Self { path, lines, text, base }
    }

    /// Returns the place among all files.
    pub(super) fn offset(&self, span: &Range<usize>) -> usize {
        self.base + span.start
    }

    /// Returns the line of a place, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.lines.line(offset)
    }

    /// Returns the column of a string's first character, if it stands in the file as it is read.
    pub(super) fn column_of(&self, setting: Setting<'_>, read: &str) -> Option<usize> {
        let Range { start, end } = setting.value.span();
        let inner = self.text.get(start + 1..end.checked_sub(1)?)?;
        let before = self.text.get(self.lines.start(self.line(start))..=start)?;
        (inner == read).then(|| before.chars().count() + 1)
    }

    /// Returns the directory where the file's relative paths start.
    pub(super) fn directory(&self) -> PathBuf {
        self.path.parent().map(Path::to_owned).unwrap_or_default()
    }

    /// Makes an error that names the file and the line.
    pub(super) fn error(&self, span: &Range<usize>, what: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::Usage, format!("{}:{}: {what}", self.path.display(), self.line(span.start)))
    }

    /// Turns a TOML error into one line that names the file, the line and the column.
    pub(super) fn syntax(&self, error: &toml::de::Error) -> Error {
        let span = error.span().unwrap_or_default();
        let line = self.line(span.start);
        let start = self.lines.start(line);
        let column = self.text.get(start..span.start).map_or(1, |before| before.chars().count() + 1);
        let what = error.message().lines().collect::<Vec<_>>().join(", ");
        Error::new(ErrorKind::Usage, format!("{}:{line}:{column}: {what}", self.path.display()))
    }

    /// Takes a value that must be a table.
    pub(super) fn table<'v>(&self, name: impl std::fmt::Display, value: &'v Value<'t>) -> Result<&'v DeTable<'t>> {
        let wrong = || {
            let instead = meant(&name.to_string(), value.get_ref());
            self.error(&value.span(), format!("{name} must be a table, not {}{instead}", kind(value)))
        };
        value.get_ref().as_table().ok_or_else(wrong)
    }

    /// Reads the settings of a table, and gives back the keys that only its kind has.
    pub(super) fn layer(&self, place: Place<'t>, table: &'t DeTable<'t>) -> Result<(Layer, OwnKeys<'t>)> {
        let mut layer = Layer::default();
        let mut own_keys = OwnKeys::new();
        for (name, value) in table {
            let span = name.span();
            let Some(key) = KEYS.into_iter().find(|known| known == name.get_ref()) else {
                let called = CALLED.iter().find(|(others, _)| others.contains(&name.get_ref().as_ref()));
                let ours =
                    called.map(|(_, ours)| *ours).filter(|ours| place.kind.keys().into_iter().any(|key| key == *ours));
                let near = match ours {
                    Some(ours) => format!(": did you mean \"{ours}\"?"),
                    None => did_you_mean(name.get_ref(), place.kind.keys()),
                };
                return Err(self.error(&span, format!("unknown key {:?} in {place}{near}", name.get_ref())));
            };
            let setting = Setting { place, key, value };
            match Kind::of_key(key) {
                None => {
                    layer.offsets.push((key, self.offset(&span)));
                    self.setting(&mut layer, setting)?;
                }
                Some(kind) if kind == place.kind => own_keys.push(setting),
                Some(kind) => {
                    let owner = if kind == Kind::Group { "[groups.NAME]" } else { "[hosts.NAME]" };
                    return Err(self.error(&span, format!("\"{key}\" belongs in {owner}, not in {place}")));
                }
            }
        }
        Ok((layer, own_keys))
    }

    fn setting(&self, layer: &mut Layer, setting: Setting<'_>) -> Result<()> {
        let settings = &mut layer.settings;
        match setting.key {
            "user" => settings.user = Some(self.word(setting)?),
            "port" => settings.port = Some(self.port(setting)?),
            "identity" | "key" => {
                if settings.identity.is_some() {
                    return Err(self.wrong(setting, "repeats \"identity\": \"key\" is its short spelling, keep one"));
                }
                settings.identity = Some(self.paths(setting)?);
            }
            "agent" => {
                let path = self.word_or_path(setting)?;
                settings.agent = Some(if path == Path::new("none") { path } else { self.resolve_path(&path) });
            }
            "password" => settings.password = Some(self.secret(setting)?),
            "answers" => settings.answers = Some(self.answers(setting)?),
            "passphrase" => settings.passphrase = Some(self.secret(setting)?),
            "become" => settings.become_by = Some(self.become_by(setting)?),
            "become_user" => settings.become_user = Some(self.word(setting)?),
            "become_password" => settings.become_password = Some(self.secret(setting)?),
            "jump" => settings.jump = Some(self.word(setting)?),
            "host_key" => settings.host_key = Some(self.host_key(setting)?),
            "known_hosts" => settings.known_hosts = Some(self.resolve_path(&self.word_or_path(setting)?)),
            "connect_timeout" => settings.connect_timeout = Some(self.duration(setting)?),
            "retries" => settings.retries = Some(self.retries(setting)?),
            "vars" => layer.vars = self.vars(setting)?,
            other => unreachable!("a known key is read: {other}"),
        }
        Ok(())
    }

    /// Makes the error that a key's value is wrong.
    pub(super) fn wrong(&self, setting: Setting<'_>, what: impl std::fmt::Display) -> Error {
        let Setting { place, key, value } = setting;
        self.error(&value.span(), format!("\"{key}\" in {place} {what}"))
    }

    fn wrong_type(&self, setting: Setting<'_>, wanted: &str) -> Error {
        self.wrong(setting, format!("must be {wanted}, not {}", kind(setting.value)))
    }

    /// Reads a string that is not empty.
    pub(super) fn string<'v>(&self, setting: Setting<'v>) -> Result<&'v str> {
        let text = setting.value.get_ref().as_str().ok_or_else(|| self.wrong_type(setting, "a string"))?;
        if text.is_empty() { Err(self.wrong(setting, "is empty")) } else { Ok(text) }
    }

    /// Reads a string or a list of strings.
    pub(super) fn strings<'v>(&self, setting: Setting<'v>) -> Result<Vec<Setting<'v>>> {
        let items = match setting.value.get_ref() {
            DeValue::String(_) => vec![setting],
            DeValue::Array(items) => items.iter().map(|value| Setting { value, ..setting }).collect(),
            _ => return Err(self.wrong_type(setting, "a list of strings")),
        };
        items.iter().try_for_each(|item| self.string(*item).map(drop))?;
        Ok(items)
    }

    fn word(&self, setting: Setting<'_>) -> Result<String> {
        let text = self.string(setting)?;
        match text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            true => Err(self.wrong(setting, "contains a space or a control character")),
            false => Ok(text.to_owned()),
        }
    }

    fn word_or_path(&self, setting: Setting<'_>) -> Result<PathBuf> {
        Ok(expand_home(self.string(setting)?))
    }

    fn paths(&self, setting: Setting<'_>) -> Result<Vec<PathBuf>> {
        let items = self.strings(setting)?;
        items.into_iter().map(|item| Ok(self.resolve_path(&self.word_or_path(item)?))).collect()
    }

    /// Makes a path relative to the inventory's directory.
    fn resolve_path(&self, path: &Path) -> PathBuf {
        self.path.parent().map_or_else(|| path.to_owned(), |directory| directory.join(path))
    }

    fn port(&self, setting: Setting<'_>) -> Result<u16> {
        let wanted = "a whole number from 1 to 65535";
        match self.integer(setting, wanted)?.try_into() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(self.wrong(setting, format!("must be {wanted}"))),
        }
    }

    fn retries(&self, setting: Setting<'_>) -> Result<u32> {
        let wanted = "a whole number, 0 or more";
        self.integer(setting, wanted)?.try_into().map_err(|_| self.wrong(setting, format!("must be {wanted}")))
    }

    fn integer(&self, setting: Setting<'_>, wanted: &str) -> Result<i64> {
        let number = setting.value.get_ref().as_integer().ok_or_else(|| self.wrong_type(setting, wanted))?;
        i64::from_str_radix(number.as_str(), number.radix()).map_err(|_| self.wrong(setting, "is too large a number"))
    }

    fn duration(&self, setting: Setting<'_>) -> Result<Duration> {
        let wanted = "a duration such as \"10s\", \"500ms\" or \"5m\", or whole seconds";
        let duration = match setting.value.get_ref() {
            DeValue::String(text) => parse_duration(text).ok(),
            DeValue::Integer(number) => parse_duration(number.as_str()).ok(),
            _ => return Err(self.wrong_type(setting, wanted)),
        };
        match duration {
            Some(duration) if !duration.is_zero() => Ok(duration),
            Some(_) => Err(self.wrong(setting, "must be more than 0")),
            None => Err(self.wrong(setting, format!("must be {wanted}"))),
        }
    }

    fn host_key(&self, setting: Setting<'_>) -> Result<HostKeyPolicy> {
        let text = self.string(setting)?;
        HostKeyPolicy::from_name(text).ok_or_else(|| {
            let known = HostKeyPolicy::NAMES;
            self.wrong(setting, format!("must be {}, not {text:?}{}", known.join(", "), did_you_mean(text, known)))
        })
    }

    fn become_by(&self, setting: Setting<'_>) -> Result<BecomeBy> {
        let text = self.string(setting)?;
        BecomeBy::from_name(text).ok_or_else(|| {
            let known = BecomeBy::NAMES;
            self.wrong(setting, format!("must be {}, not {text:?}{}", known.join(" or "), did_you_mean(text, known)))
        })
    }

    /// Reads a reference to a secret; what is written is never repeated: it may be the secret itself.
    fn secret(&self, setting: Setting<'_>) -> Result<SecretRef> {
        let refused = || self.wrong(setting, format!("is not a reference to a secret: {SECRET_FORMS}"));
        match setting.value.get_ref() {
            DeValue::String(text) => match SecretRef::parse(text) {
                Ok(SecretRef::File(path)) => Ok(SecretRef::File(self.resolve_path(&path))),
                parsed => parsed.map_err(|_| refused()),
            },
            DeValue::Table(table) => {
                let mut items = table.iter();
                match (items.next(), items.next()) {
                    (Some((key, value)), None) if key.get_ref() == "literal" => {
                        value.get_ref().as_str().filter(|text| !text.is_empty()).map(Secret::from)
                    }
                    _ => None,
                }
                .map(SecretRef::Literal)
                .ok_or_else(refused)
            }
            _ => Err(refused()),
        }
    }

    fn answers(&self, setting: Setting<'_>) -> Result<BTreeMap<String, SecretRef>> {
        let wanted = "a table of questions and references to secrets";
        let table = setting.value.get_ref().as_table().ok_or_else(|| self.wrong_type(setting, wanted))?;
        let mut answers = BTreeMap::new();
        for (question, value) in table {
            let question = question.get_ref().trim();
            if question.is_empty() {
                return Err(self.wrong(setting, "has an answer to every question: write a piece of one"));
            }
            answers.insert(question.to_owned(), self.secret(Setting { value, ..setting })?);
        }
        Ok(answers)
    }

    fn vars(&self, setting: Setting<'_>) -> Result<BTreeMap<String, Var>> {
        let table = setting.value.get_ref().as_table().ok_or_else(|| self.wrong_type(setting, "a table"))?;
        table
            .iter()
            .map(|(key, value)| Ok((key.get_ref().to_string(), self.var(Setting { value, ..setting })?)))
            .collect()
    }

    fn var(&self, setting: Setting<'_>) -> Result<Var> {
        Ok(match setting.value.get_ref() {
            DeValue::String(text) => Var::Text(text.to_string()),
            DeValue::Integer(_) => Var::Integer(self.integer(setting, "a number")?),
            DeValue::Float(number) => {
                let number = number.as_str().parse().map_err(|_| self.wrong(setting, "holds no number"))?;
                Var::Float(number)
            }
            DeValue::Boolean(value) => Var::Bool(*value),
            DeValue::Datetime(time) => Var::Text(time.to_string()),
            DeValue::Array(items) => {
                let items = items.iter().map(|value| self.var(Setting { value, ..setting }));
                Var::List(items.collect::<Result<_>>()?)
            }
            DeValue::Table(_) => Var::Table(self.vars(setting)?),
        })
    }
}

/// Names a value's type with its article.
fn kind(value: &Value<'_>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
