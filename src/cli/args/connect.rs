use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use fleet::HostKeyPolicy;

use super::values::{flag, host_key, login_name, number, port, positive, positive_duration};

/// How to reach them and log in.
#[derive(Args, Debug)]
#[command(next_help_heading = "Connect")]
pub(crate) struct Connect {
    /// Login name [default: yours]
    #[arg(short = 'l', long, value_name = "NAME", value_parser = login_name, env = "FLEET_USER", hide_env = true)]
    pub(crate) user: Option<String>,
    /// TCP port [default: 22]
    #[arg(short, long, value_parser = port, env = "FLEET_PORT", hide_env = true)]
    pub(crate) port: Option<u16>,
    /// Private key, several times for several [default: ~/.ssh/id_*]
    #[arg(short = 'I', long, value_name = "PATH", env = "FLEET_IDENTITY", hide_env = true)]
    pub(crate) identity: Vec<PathBuf>,
    /// Socket of the SSH agent, or none [default: $SSH_AUTH_SOCK]
    #[arg(long, value_name = "PATH", env = "FLEET_AGENT", hide_env = true)]
    pub(crate) agent: Option<PathBuf>,
    /// Ask for the login password, once
    #[arg(short = 'A', long, value_parser = flag(), env = "FLEET_ASK_PASS", hide_env = true)]
    pub(crate) ask_pass: bool,
    /// Login password from env:NAME, file:PATH or cmd:COMMAND
    // Read later: an error here would show the value, which may be the password itself.
    #[arg(long, value_name = "REF", conflicts_with = "ask_pass", env = "FLEET_PASSWORD_FROM", hide_env = true)]
    pub(crate) password_from: Option<String>,
    /// Bastions to go through: [USER@]HOST[:PORT], several with commas; none for none
    #[arg(short = 'J', long, value_name = "HOST", env = "FLEET_JUMP", hide_env = true)]
    pub(crate) jump: Option<String>,
    /// OpenSSH configuration, `none` for none [default: ~/.ssh/config, /etc/ssh/ssh_config]
    #[arg(short = 'F', long, value_name = "PATH", env = "FLEET_SSH_CONFIG", hide_env = true)]
    pub(crate) ssh_config: Option<PathBuf>,
    /// Run the commands of Match exec in it; else such a block is left out
    #[arg(long, value_parser = flag(), env = "FLEET_MATCH_EXEC", hide_env = true)]
    pub(crate) match_exec: bool,
    /// Host keys: strict, accept-new or off [default: accept-new]
    #[arg(long, value_name = "POLICY", value_parser = host_key, env = "FLEET_HOST_KEY", hide_env = true)]
    pub(crate) host_key: Option<HostKeyPolicy>,
    /// File of host keys [default: ~/.ssh/known_hosts]
    #[arg(long, value_name = "PATH", env = "FLEET_KNOWN_HOSTS", hide_env = true)]
    pub(crate) known_hosts: Option<PathBuf>,
    /// Time until logged in, with all attempts [default: 10s]
    #[arg(short = 't', long, value_name = "TIME", value_parser = positive_duration,
        env = "FLEET_CONNECT_TIMEOUT", hide_env = true)]
    pub(crate) connect_timeout: Option<Duration>,
    /// More attempts after a drop before the login [default: 2]
    #[arg(long, value_name = "N", value_parser = number, env = "FLEET_RETRIES", hide_env = true)]
    pub(crate) retries: Option<u32>,
    /// Logins under way at once [default: no limit]
    #[arg(long, value_name = "N", value_parser = positive, env = "FLEET_HANDSHAKES", hide_env = true)]
    pub(crate) handshakes: Option<NonZeroUsize>,
}
