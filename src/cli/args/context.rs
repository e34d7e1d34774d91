use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use fleet::transport::Pty;
use fleet::{Error, ErrorKind, Input, op};

use super::values::flag;
use crate::cli::stdin;

/// What the command finds on its host.
#[derive(Args, Debug)]
#[command(next_help_heading = "Command")]
pub(crate) struct Context {
    /// Set a variable for the command, several times for several
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = OsStringValueParser::new().try_map(variable),
        env = "FLEET_ENV", hide_env = true)]
    vars: Vec<(String, Vec<u8>)>,
    /// Directory to run it in [default: the login's home]
    #[arg(long, value_name = "DIR", env = "FLEET_CWD", hide_env = true)]
    cwd: Option<OsString>,
    /// Set FLEET_HOST, FLEET_INDEX (from 0) and FLEET_TOTAL for it
    #[arg(long, value_parser = flag(), env = "FLEET_EXPORT_HOST", hide_env = true)]
    export_host: bool,
    /// Fill {{host}}, {{address}}, {{vars.NAME}} and more into it, quoted
    #[arg(long, value_parser = flag(), env = "FLEET_TEMPLATE", hide_env = true)]
    template: bool,
    /// File for its standard input, - for fleet's own; read once, of any size [default: none]
    #[arg(long, value_name = "PATH", env = "FLEET_STDIN", hide_env = true)]
    stdin: Option<PathBuf>,
    /// Run it on a terminal of its own; stderr comes with stdout
    #[arg(long, value_parser = flag(), conflicts_with = "stdin", env = "FLEET_PTY", hide_env = true)]
    pty: bool,
}

impl Context {
    pub(crate) fn make(&self) -> op::Context {
        let vars = self.vars.iter().cloned();
        let context = vars.fold(op::Context::new(), |context, (name, value)| context.env(name, value));
        let context = context.export_host(self.export_host).template(self.template);
        match &self.cwd {
            Some(dir) => context.cwd(dir.clone().into_vec()),
            None => context,
        }
    }

    /// Returns the terminal that is wanted: as large as this one, and of its kind.
    pub(crate) fn pty(&self) -> Option<Pty> {
        let term = std::env::var("TERM").ok().filter(|term| !term.is_empty());
        let pty = Pty::new(term.as_deref().unwrap_or("dumb"));
        let size = terminal_size::terminal_size();
        let sized = match size {
            Some((terminal_size::Width(columns), terminal_size::Height(rows))) => pty.size(columns, rows),
            None => pty,
        };
        self.pty.then_some(sized)
    }

    /// Tells whether fleet's own is wanted for the commands.
    pub(crate) fn takes_stdin(&self) -> bool {
        self.stdin.as_deref() == Some(Path::new("-"))
    }

    pub(crate) fn input(&self) -> fleet::Result<Option<Input>> {
        match &self.stdin {
            None => Ok(None),
            Some(_) if self.takes_stdin() => {
                stdin::claim("what --stdin reads").map_err(|why| Error::new(ErrorKind::Usage, why))?;
                Input::stdin().map(Some)
            }
            Some(path) => Input::open(path).map(Some),
        }
    }
}

fn variable(text: OsString) -> Result<(String, Vec<u8>), &'static str> {
    let mut name = text.into_vec();
    let at = name.iter().position(|byte| *byte == b'=').ok_or("write NAME=VALUE")?;
    let value = name.split_off(at).split_off(1);
    let is_letter = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    let is_name =
        name.first().is_some_and(is_letter) && name.iter().all(|byte| is_letter(byte) || byte.is_ascii_digit());
    match String::from_utf8(name) {
        Ok(name) if is_name => Ok((name, value)),
        _ => Err("a name has letters, digits and _, and begins with no digit"),
    }
}
