//! The forms that an inventory may be written in, one file each.
//!
//! | form | known by |
//! |---|---|
//! | fleet's TOML | `.toml`; or tables named `defaults`, `groups`, `hosts` |
//! | Ansible's INI | `.ini`, `.cfg`; or a `[section]`, or `name=value` after a host |
//! | Ansible's JSON | `.json`; or a `{` at the start: what `ansible-inventory --list` prints |
//! | a program | a file that may be executed and begins as one (`#!`, ELF): asked with `--list` for that JSON |
//! | ssh_config | the name `config` or `ssh_config`, `.conf`; or a line that begins with `Host` or `Match` |
//! | a list | everything else: one or more names, hostsets or expressions a line |

mod ansible;
mod ini;
mod json;
mod list;
mod program;
mod ssh_config;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Inventory;
use super::address::is_ip;
use super::build::{Builder, Lines, usage};
use super::file::Toml;
use super::list::uncommented;
use crate::error::{Error, ErrorKind, Result};

/// An inventory file that was read, in any form.
pub(super) trait Form {
    /// Names the groups, so that other files may speak of them.
    fn declare(&self, _builder: &mut Builder) -> Result<()> {
        Ok(())
    }

    /// Adds the hosts, and what is said of them.
    fn fill(&self, builder: &mut Builder) -> Result<()>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Toml,
    Ini,
    Json,
    Program,
    SshConfig,
    List,
}

/// A file and what it holds, or what the program that it is says.
struct Text<'p> {
    path: &'p Path,
    kind: Kind,
    text: String,
}

impl Inventory {
    /// Reads one inventory from several files: their hosts and groups are united.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), and when two files set the same of a host, a group or the defaults differently; both are named.
    ///
    /// # Blocking
    ///
    /// Waits for a program's answer for at most 60 s.
    pub fn load_all<P: AsRef<Path>>(paths: &[P]) -> Result<Self> {
        Self::load_before(paths, None)
    }

    pub(super) fn load_before<P: AsRef<Path>>(paths: &[P], deadline: Option<Instant>) -> Result<Self> {
        let texts = paths.iter().map(|path| Text::read(path.as_ref(), deadline)).collect::<Result<Vec<_>>>()?;
        build(&texts, deadline)
    }
}

/// Reads an inventory from text.
pub(super) fn parse(text: &str, path: &Path) -> Result<Inventory> {
    let kind = recognise(path, text, false)?;
    build(&[Text { path, kind, text: text.to_owned() }], None)
}

/// Returns the directories of variables that Ansible reads beside an inventory, and fleet does not.
fn unread(path: &Path) -> impl Iterator<Item = PathBuf> {
    let beside = path.parent().unwrap_or(Path::new("")).to_owned();
    ["group_vars", "host_vars"].into_iter().map(move |name| beside.join(name)).filter(|path| path.is_dir())
}

fn build(texts: &[Text<'_>], deadline: Option<Instant>) -> Result<Inventory> {
    let ask = |path: &Path, args: &[&str]| program::run(path, args, deadline);
    let mut builder = Builder::default();
    let mut forms: Vec<Box<dyn Form + '_>> = Vec::with_capacity(texts.len());
    for Text { path, kind, text } in texts {
        if matches!(kind, Kind::Ini | Kind::Program) {
            let vars = unread(path).map(|vars| format!("{} is not read: {}", vars.display(), whole(path)));
            builder.inventory.warnings.extend(vars);
        }
        let files = &mut builder.inventory.files;
        forms.push(match kind {
            Kind::Toml => Box::new(Toml::parse(text, path, files)?),
            Kind::Ini => Box::new(ini::Ini::parse(text, path, files.add(path, Lines::new(text), text.len()))?),
            Kind::Json => Box::new(json::Json::parse(text, path, files.add(path, Lines::default(), 0), None)?),
            Kind::Program => Box::new(json::Json::parse(text, path, files.add(path, Lines::default(), 0), Some(&ask))?),
            Kind::SshConfig => {
                files.add(path, Lines::default(), 0);
                Box::new(ssh_config::Names::parse(text, path)?)
            }
            Kind::List => {
                files.add(path, Lines::default(), 0);
                Box::new(list::List::new(text, path))
            }
        });
    }
    forms.iter().try_for_each(|form| form.declare(&mut builder))?;
    forms.iter().try_for_each(|form| form.fill(&mut builder))?;
    drop(forms);
    builder.finish()
}

impl<'p> Text<'p> {
    fn read(path: &'p Path, deadline: Option<Instant>) -> Result<Self> {
        let shown = path.display();
        let cannot = |error| Error::new(ErrorKind::Usage, format!("cannot read inventory {shown}")).caused_by(error);
        let about = std::fs::metadata(path).map_err(cannot)?;
        if about.is_dir() {
            return Err(usage(format!("inventory {shown} is a directory: name its files, each with -i")));
        }
        let bytes = std::fs::read(path).map_err(cannot)?;
        let may_run = about.is_file() && about.permissions().mode() & 0o111 != 0;
        if may_run && is_program(&bytes) && path.extension().is_none_or(|extension| extension != "toml") {
            let text = program::run(path, &["--list"], deadline)?;
            return Ok(Self { path, kind: Kind::Program, text });
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
            usage(format!("{shown}:{line}: not UTF-8"))
        })?;
        let kind = recognise(path, &text, is_program(text.as_bytes()))?;
        Ok(Self { path, kind, text })
    }
}

fn is_program(bytes: &[u8]) -> bool {
    bytes.starts_with(b"#!") || bytes.starts_with(b"\x7fELF")
}

/// Says how all that Ansible knows of an inventory is had in a form that fleet reads.
fn whole(path: &Path) -> String {
    format!("run ansible-inventory -i {} --list >hosts.json, and use that", path.display())
}

fn is_yaml(path: &Path) -> Error {
    usage(format!("{} is YAML, which is not read here: {}", path.display(), whole(path)))
}

/// Tells the form of a text by its name, else by what it holds.
fn recognise(path: &Path, text: &str, is_program: bool) -> Result<Kind> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if text.starts_with("$ANSIBLE_VAULT;") {
        let shown = path.display();
        return Err(usage(format!("{shown} is encrypted: run ansible-vault view {shown}, and use what it prints")));
    }
    match path.extension().unwrap_or_default().to_string_lossy().as_ref() {
        "toml" => return Ok(Kind::Toml),
        "ini" | "cfg" => return Ok(Kind::Ini),
        "json" => return Ok(Kind::Json),
        "yml" | "yaml" => return Err(is_yaml(path)),
        "conf" => return Ok(Kind::SshConfig),
        _ if is_program => {
            return Err(usage(format!("{} is a program, but may not be executed: chmod +x", path.display())));
        }
        _ if matches!(&*name, "config" | "ssh_config") => return Ok(Kind::SshConfig),
        _ => {}
    }
    let first = text.lines().map(uncommented).find(|line| !line.is_empty());
    // `---`, or `all:` alone on a line.
    let is_key = |line: &str| line.strip_suffix(':').is_some_and(|key| !key.contains([':', ',', ' ', '[']));
    if first.is_some_and(|line| line == "---" || is_key(line)) {
        return Err(is_yaml(path));
    }
    Ok(text.lines().map(uncommented).find_map(kind_of_line).unwrap_or_else(|| {
        // Nothing tells; without a word it may become anything.
        if text.lines().map(uncommented).all(str::is_empty) { Kind::Toml } else { Kind::List }
    }))
}

/// Tells the form that a line belongs to, if only one has such a line.
fn kind_of_line(line: &str) -> Option<Kind> {
    let first = line.split_whitespace().next()?.to_ascii_lowercase();
    if line.starts_with('{') {
        return Some(Kind::Json);
    }
    if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let name = section.trim_matches(['[', ']', ' ']);
        let is_ours = ["defaults", "groups", "hosts"]
            .iter()
            .any(|table| name.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')));
        return match is_ours {
            true => Some(Kind::Toml),
            // An address, or a number: names of hosts.
            false if is_ip(name) || name.starts_with(|c: char| c.is_ascii_digit()) => None,
            false => Some(Kind::Ini),
        };
    }
    if matches!(&*first, "host" | "match" | "include") && line.contains(char::is_whitespace) {
        return Some(Kind::SshConfig);
    }
    let mut words = line.split_whitespace();
    match (words.next(), words.next()) {
        (Some(first), Some("=")) if !first.contains('=') => Some(Kind::Toml),
        (Some(_), Some(second)) if second.contains('=') && !second.starts_with("vars.") => Some(Kind::Ini),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_known_by_name_or_content() {
        for (name, text, kind) in [
            ("hosts.toml", "web1\n", Kind::Toml),
            ("hosts", "", Kind::Toml),
            ("hosts", "# x\n[defaults]\n", Kind::Toml),
            ("hosts", "[groups.web]\nhosts = []\n", Kind::Toml),
            ("hosts", "[hosts.\"a b\"]\n", Kind::Toml),
            ("hosts", "groups.web.port = 3\n", Kind::Toml),
            ("hosts", "[web]\na\n", Kind::Ini),
            ("hosts", "a\nb\n[web:children]\n", Kind::Ini),
            ("hosts", "a ansible_host=10.0.0.1\n", Kind::Ini),
            ("hosts.ini", "a\n", Kind::Ini),
            ("hosts", " {\"all\": {}}", Kind::Json),
            ("hosts", "# mine\nHost web1\n  User www\n", Kind::SshConfig),
            ("config", "User www\n", Kind::SshConfig),
            ("hosts", "web[01-20] # x\n[::1]:22\n[1-3]\n", Kind::List),
            ("hosts.txt", "host1\nhost2 host3\n", Kind::List),
        ] {
            assert_eq!(recognise(Path::new(name), text, false).unwrap(), kind, "{name}: {text:?}");
        }
        assert!(recognise(Path::new("a.yml"), "all:\n", false).unwrap_err().to_string().contains("ansible-inventory"));
        for text in ["all:\n  hosts:\n    web1:\n", "# mine\n---\nall:\n"] {
            let yaml = recognise(Path::new("hosts"), text, false).unwrap_err().to_string();
            assert!(yaml.starts_with("hosts is YAML"), "{yaml}");
        }
        let vault = recognise(Path::new("hosts.ini"), "$ANSIBLE_VAULT;1.1;AES256\n6266\n", false).unwrap_err();
        assert!(vault.to_string().contains("ansible-vault view hosts.ini"), "{vault}");
        assert!(recognise(Path::new("a.py"), "#!/usr/bin/python3\n", true).unwrap_err().to_string().contains("chmod"));
    }
}
