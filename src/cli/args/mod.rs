//! The command line: verbs and their flags. Structs only; what they do is in `verbs/`.

mod connect;
mod output;
mod run;
mod select;
mod values;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use connect::Connect;
pub(crate) use output::{ColorWhen, Format, Lines, Output};
pub(crate) use run::{Idle, Run, Timeout};
pub(crate) use select::Select;
pub(crate) use values::Order;

const EXAMPLES: &str = "\
Examples:
  fleet exec -i hosts.toml df -h            on every host of the inventory
  fleet exec -w 'web[01-20]' -u 30s uptime  on twenty hosts, at most 30 seconds each
  fleet put -g web nginx.conf /etc/nginx/   one file to a group of hosts
  fleet hosts -w '@web!web03'               whom a selection means

`fleet VERB --help` lists a verb's flags. Each may also be set as FLEET_<NAME>=VALUE.
TIME is 500ms, 10s, 5m, 1h or a number of seconds.

Exit code: 0 all ok, 1 a host failed, 2 usage, 3 a host was unreachable, 4 stopped by --max-fail,
70 an error of fleet's own, 124 timed out, 130 interrupted";

const EXEC_EXAMPLES: &str = "\
Examples:
  fleet exec -w web01,web02 systemctl is-active nginx
  fleet exec -g db --max-fail 10% 'sudo apt-get -y upgrade 2>&1 | tail -n 1'
  fleet exec -a --format json uptime | jq -r 'select(.event == \"output\") | .host + \" \" + .text'

Everything after the first word of the command belongs to it. It runs in the login's shell.";

const PUT_EXAMPLES: &str = "\
Examples:
  fleet put -g web nginx.conf /etc/nginx/nginx.conf
  fleet put -a site tools /srv/

A directory goes with all it holds. REMOTE is the path that LOCAL gets. Where REMOTE is a
directory or ends in `/`, or several LOCALs are given, they go into it.";

const GET_EXAMPLES: &str = "\
Examples:
  fleet get -g web /var/log/nginx/error.log logs    writes logs/web01/error.log, logs/web02/error.log, …";

const HOSTS_EXAMPLES: &str = "\
Examples:
  fleet hosts -w '@web!web03' --fold
  fleet hosts -a -v
  fleet hosts --explain web01";

/// Runs commands and moves files on many hosts at once over SSH
#[derive(Debug, Parser)]
#[command(
    name = "fleet",
    version = super::version(),
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = EXAMPLES,
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs",
    override_usage = "fleet VERB [flags] …",
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a command on each host
    Exec(Exec),
    /// Copy local files or directories to each host
    Put(Put),
    /// Copy a file or directory from each host
    Get(Get),
    /// Log in to each host and do nothing
    Ping(Ping),
    /// List the selected hosts; contacts nothing
    Hosts(Hosts),
}

#[derive(Args, Debug)]
#[command(after_help = EXEC_EXAMPLES, override_usage = "fleet exec [flags] COMMAND…")]
pub(crate) struct Exec {
    /// The command; its words are joined with spaces, as ssh does
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    #[command(flatten)]
    pub(crate) select: Select,
    #[command(flatten)]
    pub(crate) connect: Connect,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
    #[command(flatten)]
    pub(crate) idle: Idle,
    #[command(flatten)]
    pub(crate) run: Run,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) lines: Lines,
}

impl Exec {
    /// Returns the command as it goes over: the words' bytes, joined with spaces.
    pub(crate) fn command(&self) -> Vec<u8> {
        let words: Vec<Vec<u8>> = self.command.iter().map(|word| word.clone().into_vec()).collect();
        words.join(&b' ')
    }
}

#[derive(Args, Debug)]
#[command(after_help = PUT_EXAMPLES, override_usage = "fleet put [flags] LOCAL… REMOTE")]
pub(crate) struct Put {
    /// Local files and directories
    #[arg(required = true, num_args = 1.., value_name = "LOCAL")]
    pub(crate) locals: Vec<PathBuf>,
    /// The path on each host
    #[arg(value_name = "REMOTE")]
    remote: OsString,
    #[command(flatten)]
    pub(crate) select: Select,
    #[command(flatten)]
    pub(crate) connect: Connect,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
    #[command(flatten)]
    pub(crate) run: Run,
    #[command(flatten)]
    pub(crate) output: Output,
}

impl Put {
    pub(crate) fn remote(&self) -> Vec<u8> {
        self.remote.clone().into_vec()
    }
}

#[derive(Args, Debug)]
#[command(after_help = GET_EXAMPLES, override_usage = "fleet get [flags] REMOTE LOCAL_DIR")]
pub(crate) struct Get {
    /// The path on each host
    #[arg(value_name = "REMOTE")]
    remote: OsString,
    /// The local directory; each host's copy goes into LOCAL_DIR/HOST/
    #[arg(value_name = "LOCAL_DIR")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) select: Select,
    #[command(flatten)]
    pub(crate) connect: Connect,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
    #[command(flatten)]
    pub(crate) run: Run,
    #[command(flatten)]
    pub(crate) output: Output,
}

impl Get {
    pub(crate) fn remote(&self) -> Vec<u8> {
        self.remote.clone().into_vec()
    }
}

#[derive(Args, Debug)]
#[command(override_usage = "fleet ping [flags]")]
pub(crate) struct Ping {
    #[command(flatten)]
    pub(crate) select: Select,
    #[command(flatten)]
    pub(crate) connect: Connect,
    #[command(flatten)]
    pub(crate) run: Run,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args, Debug)]
#[command(after_help = HOSTS_EXAMPLES, override_usage = "fleet hosts [flags]")]
pub(crate) struct Hosts {
    #[command(flatten)]
    pub(crate) select: Select,
    #[command(flatten)]
    pub(crate) connect: Connect,
    /// Show every setting of a host, and where it comes from
    #[arg(long, value_name = "HOST", help_heading = "Output",
        conflicts_with_all = ["hosts", "group", "all", "fold", "count", "groups", "format", "verbose"])]
    pub(crate) explain: Option<String>,
    /// Print one folded expression: web[01-20]
    #[arg(long, help_heading = "Output", conflicts_with_all = ["count", "groups", "format", "verbose"])]
    pub(crate) fold: bool,
    /// Print only how many there are
    #[arg(long, help_heading = "Output", conflicts_with_all = ["groups", "format", "verbose"])]
    pub(crate) count: bool,
    /// Print the groups that hold them, each with its hosts folded
    #[arg(long, help_heading = "Output", conflicts_with_all = ["format", "verbose"])]
    pub(crate) groups: bool,
    /// Show user, address, port and groups too
    #[arg(short, long, help_heading = "Output", conflicts_with = "format")]
    pub(crate) verbose: bool,
    /// Form of the output: text or json [default: text]
    #[arg(
        long,
        help_heading = "Output",
        value_enum,
        value_name = "FORM",
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true,
        env = "FLEET_FORMAT",
        hide_env = true
    )]
    pub(crate) format: Format,
}
