//! What a command finds on its host: variables, a directory, the host's place in the run; and templates.

use super::template::{Place, Use, fill};
use crate::error::{Error, ErrorKind, Result};
use crate::quote::quote;

/// What a command finds on its host, in front of it on the same command line; nothing by default.
///
/// The login shell sets it up itself and then reads the command as it would alone: it is that shell's own language, its status
/// and its process. Shells: sh, dash, bash, zsh, ksh, busybox ash, and fish from 3.0 on. csh and tcsh refuse the line with
/// status 1 before the command.
///
/// # Examples
///
/// ```
/// use fleet::Host;
/// use fleet::op::{Context, Exec};
///
/// let context = Context::new().env("STAGE", "it's live").cwd("~/app").template(true);
/// let exec = Exec::new("./deploy {{host}}").within(context);
/// let line = exec.command_for(&Host::new("web01", "10.0.0.5"), 0, 1)?;
/// assert!(line.ends_with(b" || exit; cd ./app || exit; ./deploy web01"));
/// # Ok::<(), fleet::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    env: Vec<(String, Vec<u8>)>,
    cwd: Option<Vec<u8>>,
    export_host: bool,
    is_template: bool,
}

impl Context {
    /// Makes a context that adds nothing: the command goes over byte for byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a variable in the command's environment; of one name the last value counts.
    ///
    /// The name has letters, digits and `_`, no digit first (POSIX, 3.231 Name); others are an error of the host.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets the directory the command runs in; where it cannot be entered, the command is not run and the shell's status is
    /// the result. Default, and what a relative path starts from: the login's home, which `~/` before a path also means.
    #[must_use]
    pub fn cwd(mut self, dir: impl Into<Vec<u8>>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    /// Sets `FLEET_HOST` (the inventory name), `FLEET_INDEX` (the host's place in the run, from 0) and `FLEET_TOTAL` (how many
    /// hosts the run has). Default: no.
    #[must_use]
    pub fn export_host(mut self, wanted: bool) -> Self {
        self.export_host = wanted;
        self
    }

    /// Fills `{{NAME}}` in the command, the values of variables, the directory and a script's arguments. Default: no.
    ///
    /// Names: `host`, `address`, `port`, `user`, `index` (from 0), `total`, `groups` (nearest first, with commas between) and
    /// `vars.NAME`. In a command, a value goes in [quoted](crate::quote()), as one word or a part of one; between quotes of
    /// the command it must not need any, and `{{{NAME}}}` puts it in as it is. `\{{` stands for `{{`.
    #[must_use]
    pub fn template(mut self, wanted: bool) -> Self {
        self.is_template = wanted;
        self
    }

    /// Puts itself before a command.
    pub(super) fn frame(&self, command: &[u8], place: &Place<'_>) -> Result<Vec<u8>> {
        let mut line = self.prefix(place)?;
        line.extend(self.filled(command, place, Use::Command)?);
        Ok(line)
    }

    /// Puts itself before a command that is filled already.
    pub(super) fn frame_filled(&self, command: &[u8], place: &Place<'_>) -> Result<Vec<u8>> {
        Ok([&*self.prefix(place)?, command].concat())
    }

    /// Fills a word that is quoted later.
    pub(super) fn word(&self, word: &[u8], place: &Place<'_>) -> Result<Vec<u8>> {
        let word = self.filled(word, place, Use::Word)?;
        if word.contains(&0) {
            return Err(Error::new(ErrorKind::Usage, "a command line cannot hold a zero byte"));
        }
        Ok(word)
    }

    fn filled(&self, text: &[u8], place: &Place<'_>, usage: Use) -> Result<Vec<u8>> {
        if self.is_template { fill(text, place, usage) } else { Ok(text.to_vec()) }
    }

    fn prefix(&self, place: &Place<'_>) -> Result<Vec<u8>> {
        let mut env: Vec<(&str, Vec<u8>)> = Vec::with_capacity(self.env.len() + 3);
        for (name, value) in &self.env {
            check_name(name)?;
            env.push((name, quote(self.word(value, place)?)));
        }
        if self.export_host {
            env.push(("FLEET_HOST", quote(&place.host.name)));
            env.push(("FLEET_INDEX", quote(place.index.to_string())));
            env.push(("FLEET_TOTAL", quote(place.total.to_string())));
        }
        let mut line = Vec::new();
        if env.is_empty() && self.cwd.is_none() {
            return Ok(line);
        }
        // Set in fish alone; csh ends here, for it knows neither the variable nor what follows.
        line.extend(b"test \"$FISH_VERSION\"");
        if env.is_empty() {
            line.extend(b"; ");
        } else {
            for (name, value) in &env {
                line.extend([b" && set -gx ", name.as_bytes(), b" ", value].concat());
            }
            line.extend(b" || export");
            for (name, value) in &env {
                line.extend([b" ", name.as_bytes(), b"=", value].concat());
            }
            line.extend(b" || exit; ");
        }
        if let Some(dir) = &self.cwd {
            line.extend([b"cd ", &*quote(entered(&self.word(dir, place)?)), b" || exit; "].concat());
        }
        Ok(line)
    }
}

/// Writes a directory so that `cd` takes it for one, whatever it begins with, and searches no `CDPATH`.
fn entered(dir: &[u8]) -> Vec<u8> {
    let dir = match dir.strip_prefix(b"~") {
        Some([]) => b".",
        Some([b'/', rest @ ..]) => rest,
        _ => dir,
    };
    if dir.starts_with(b"/") { dir.to_vec() } else { [b"./", dir].concat() }
}

fn check_name(name: &str) -> Result<()> {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_name = name.starts_with(is_letter) && name.chars().all(|c| is_letter(c) || c.is_ascii_digit());
    if is_name { Ok(()) } else { Err(Error::new(ErrorKind::Usage, format!("{name:?} is no name of a variable"))) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;
    use std::process::{Command, Output};

    use super::*;
    use crate::host::Host;

    const SHELLS: [&[&str]; 6] =
        [&["sh", "-c"], &["dash", "-c"], &["bash", "-c"], &["zsh", "-c"], &["fish", "-c"], &["busybox", "ash", "-c"]];

    fn frame(context: &Context, command: &str) -> Result<Vec<u8>> {
        let host = Host::new("web 'one'", "10.0.0.5");
        context.frame(command.as_bytes(), &Place { host: &host, index: 3, total: 20 })
    }

    fn shells() -> impl Iterator<Item = &'static [&'static str]> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_there = move |shell: &&[&str]| std::env::split_paths(&path).any(|dir| dir.join(shell[0]).is_file());
        SHELLS.into_iter().filter(is_there)
    }

    fn run(shell: &[&str], line: &[u8], home: &Path) -> Output {
        let line = std::ffi::OsStr::from_bytes(line);
        let mut command = Command::new(shell[0]);
        command
            .args(&shell[1..])
            .arg(line)
            .current_dir(home)
            .env("HOME", home)
            .env("CDPATH", "/")
            .env("LC_ALL", "C.UTF-8");
        command.output().unwrap()
    }

    #[test]
    fn without_anything_a_command_stays_as_it_is() {
        let command = "printf '%s' {{host}} \\\n\t\u{fc}; ";
        assert_eq!(frame(&Context::new(), command).unwrap(), command.as_bytes());
    }

    #[test]
    fn every_shell_sets_up_the_same() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join("usr/-d it's")).unwrap();
        let value = "it's \\ !x $HOME `id`\n\"\u{fc}\" ";
        let context =
            Context::new().env("A_1", "first").env("A_1", value).env("b", "").cwd("usr/-d it's").export_host(true);
        let command = "printf '<%s>' \"$A_1\" \"$b\" \"$FLEET_HOST\" $FLEET_INDEX $FLEET_TOTAL; env | grep -c '^b=$'; pwd; exit 41";
        let line = frame(&context, command).unwrap();
        for shell in shells() {
            let output = run(shell, &line, home.path());
            let expected = format!(
                "<{value}><><web 'one'><3><20>1\n{}/usr/-d it's\n",
                home.path().canonicalize().unwrap().display()
            );
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{shell:?}");
            assert_eq!(
                (String::from_utf8_lossy(&output.stderr).as_ref(), output.status.code()),
                ("", Some(41)),
                "{shell:?}"
            );
        }
    }

    #[test]
    fn a_directory_that_cannot_be_entered_ends_it() {
        let home = tempfile::tempdir().unwrap();
        let line = frame(&Context::new().cwd("nowhere"), "echo ran; echo on").unwrap();
        for shell in shells() {
            let output = run(shell, &line, home.path());
            assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{shell:?}");
            assert!(matches!(output.status.code(), Some(1 | 2)), "{shell:?}: {:?}", output.status);
        }
    }

    #[test]
    fn a_variable_that_cannot_be_set_ends_it() {
        let line = frame(&Context::new().env("A", "1"), "echo ran").unwrap();
        let line = [b"readonly A; ", &*line].concat();
        for shell in shells().filter(|shell| shell[0] != "fish") {
            let output = run(shell, &line, Path::new("/"));
            assert!(output.stdout.is_empty() && output.status.code() != Some(0), "{shell:?}");
        }
    }

    #[test]
    fn csh_refuses_before_the_command() {
        if !Path::new("/usr/bin/tcsh").exists() {
            return;
        }
        for context in [Context::new().env("A", "1"), Context::new().cwd("usr"), Context::new().cwd("nowhere")] {
            let output = run(&["tcsh", "-f", "-c"], &frame(&context, "echo ran").unwrap(), Path::new("/"));
            assert_eq!((output.stdout.as_slice(), output.status.code()), (&b""[..], Some(1)));
        }
    }

    #[test]
    fn directories_are_taken_for_directories() {
        for (dir, expected) in
            [("/srv", "/srv"), ("~", "./."), ("~/a", "./a"), ("-", "./-"), ("a", "./a"), ("~a", "./~a"), ("", "./")]
        {
            assert_eq!(String::from_utf8(entered(dir.as_bytes())).unwrap(), expected);
        }
    }

    #[test]
    fn wrong_names_are_refused() {
        for name in ["", "1A", "A-B", "A=B", "\u{fc}", "A;ls", "A B"] {
            let error = frame(&Context::new().env(name, ""), "true").unwrap_err();
            assert_eq!(
                (error.kind(), error.to_string()),
                (ErrorKind::Usage, format!("{name:?} is no name of a variable"))
            );
        }
        assert!(frame(&Context::new().env("A", "\0"), "true").is_err());
    }
}
