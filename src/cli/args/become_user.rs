use clap::Args;
use fleet::{BecomeBy, Host, SecretRef, Settings};

use super::super::exit::Refusal;
use super::super::usage;
use super::values::{become_by, flag};

/// As whom the command runs.
#[derive(Args, Debug)]
#[command(next_help_heading = "Command")]
pub(crate) struct BecomeUser {
    /// Run it as another user: sudo, also as --sudo, or none [default: as the inventory says]
    #[arg(id = "become", long, value_name = "WAY", value_parser = become_by, env = "FLEET_BECOME", hide_env = true)]
    by: Option<BecomeBy>,
    /// The same as --become sudo
    #[arg(long, hide = true, value_parser = flag(), conflicts_with = "become", env = "FLEET_SUDO", hide_env = true)]
    sudo: bool,
    /// The user that it runs as then [default: root]
    #[arg(id = "become_user", long = "become-user", value_name = "NAME", env = "FLEET_BECOME_USER", hide_env = true)]
    user: Option<String>,
    /// Ask for the password that sudo wants, once
    #[arg(short = 'K', long, value_parser = flag(), env = "FLEET_ASK_BECOME_PASS", hide_env = true)]
    ask_become_pass: bool,
    /// That password from env:NAME, file:PATH or cmd:COMMAND
    // Read later: an error here would show the value, which may be the password itself.
    #[arg(
        long,
        value_name = "REF",
        conflicts_with = "ask_become_pass",
        env = "FLEET_BECOME_PASSWORD_FROM",
        hide_env = true
    )]
    become_password_from: Option<String>,
}

impl BecomeUser {
    /// Merges itself into the flags.
    pub(crate) fn set(&self, flags: &mut Settings) -> Result<(), Refusal> {
        flags.become_by = if self.sudo { Some(BecomeBy::Sudo) } else { self.by };
        flags.become_user.clone_from(&self.user);
        flags.become_password = match &self.become_password_from {
            _ if self.ask_become_pass => Some(SecretRef::Ask),
            Some(text) => Some(SecretRef::parse(text).map_err(|_| {
                Refusal::usage(
                    "--become-password-from takes no password: write env:NAME, file:PATH, cmd:COMMAND or ask",
                )
            })?),
            None => None,
        };
        Ok(())
    }

    /// Refuses what says how hosts become another user, where none does.
    pub(crate) fn check<'h>(&self, hosts: impl IntoIterator<Item = &'h Host>) -> Result<(), Refusal> {
        let given = [
            ("become_user", self.user.is_some()),
            ("ask_become_pass", self.ask_become_pass),
            ("become_password_from", self.become_password_from.is_some()),
        ];
        // A variable may stand for all runs.
        let typed = given.into_iter().find(|(id, is_set)| *is_set && usage::is_flag(std::env::args_os(), id));
        let Some((id, _)) = typed else { return Ok(()) };
        if hosts.into_iter().any(|host| host.become_user.is_some()) {
            return Ok(());
        }
        let flag = if id == "ask_become_pass" { "-K".to_owned() } else { format!("--{}", id.replace('_', "-")) };
        Err(Refusal::usage(format!("{flag} has no meaning: no host becomes another user")).hint("add --become sudo"))
    }
}
