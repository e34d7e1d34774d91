//! The command line: verbs and their flags. Structs only; what they do is in `verbs/`.

mod become_user;
mod connect;
mod context;
mod output;
mod run;
mod select;
mod values;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use become_user::BecomeUser;
pub(crate) use connect::Connect;
pub(crate) use context::Context;
pub(crate) use output::{ColorWhen, Format, Lines, Output};
pub(crate) use run::{Again, Ending, Run, Same, Timeout};
pub(crate) use select::Select;
use values::flag;
pub(crate) use values::{Order, ProgressWhen};

const EXAMPLES: &str = "\
Examples:
  fleet exec -i hosts.toml df -h             on every host of the inventory
  fleet exec -w 'web[01-20]' -u 30s uptime   on twenty hosts, 30 seconds each
  fleet put -g web nginx.conf /etc/nginx/    one file to a group of hosts
  fleet hosts -w '@web!web03'                whom a selection means

`fleet VERB --help` has a verb's flags and examples.";

/// What the manual page has beside the help, and the help of verbs that run something at its end.
pub(crate) const FOOTNOTES: &str = "\
Each flag may also be set as FLEET_<NAME>=VALUE. TIME is 500ms, 10s, 5m, 1h or seconds.
Exit code: 0 all ok, 1 a host failed, 2 usage, 3 a host was unreachable, 4 stopped by
--max-fail, 70 an error of fleet's own, 124 timed out, 130 interrupted";

const EXEC_EXAMPLES: &str = "\
Examples:
  fleet exec -w web01,web02 systemctl is-active nginx
  fleet exec -a -f 20 -u 30s --dry-run uptime     who would run what
  fleet exec -g db --max-fail 10% 'sudo apt-get -y upgrade 2>&1 | tail -n 1'
  fleet exec -a --format json uptime | jq -r 'select(.event == \"output\") | .host + \" \" + .text'

Everything after the first word of the command belongs to it. It runs in the login's shell.";

const SCRIPT_EXAMPLES: &str = "\
Examples:
  fleet script -g web deploy.sh --stage live
  fleet script -w db01 --template backup.py {{host}} {{vars.role}}
  generate | fleet script -a -

Everything after FILE belongs to the script. It runs with the interpreter of its first line,
or with sh, and leaves no file behind.";

const PUT_EXAMPLES: &str = "\
Examples:
  fleet put -g web nginx.conf /etc/nginx/nginx.conf
  fleet put -a site tools /srv/

A directory goes with all it holds. REMOTE is the path that LOCAL gets. Where REMOTE is a
directory or ends in `/`, or several LOCALs are given, they go into it.";

const GET_EXAMPLES: &str = "\
Examples:
  fleet get -g web /var/log/nginx/error.log logs    into logs/web01/, logs/web02/, …
  fleet get -w 'db[1-3]' -u 5m /srv/backup .        a directory, into ./db1/, ./db2/, ./db3/";

const COPY_ID_EXAMPLES: &str = "\
Examples:
  fleet copy-id -g web -A                       your key, let in by the password that is asked for
  fleet copy-id -a --key ~/.ssh/deploy.pub
  fleet copy-id -w web01 --key alice.pub --no-proof

It goes into ~/.ssh/authorized_keys of the login, once: `added` or `already there` is said of
each host. Then fleet logs in with that key alone; where it cannot, the host failed.
Default key: the .pub of the hosts' identity, else of ~/.ssh/id_ed25519, id_ecdsa or id_rsa,
else the agent's first. A private key never leaves this machine.";

const PING_EXAMPLES: &str = "\
Examples:
  fleet ping -a                             who can be logged in to, and if not, why not
  fleet ping -w db01 -vv                    each phase of the way there
  fleet ping -g web --format json | jq -r 'select(.status == \"unreachable\") | .host'";

/// The flags of a login, which [`Trust`] has none of and refuses.
pub(crate) const LOGIN_FLAGS: [&str; 6] = ["user", "identity", "agent", "ask_pass", "password_from", "host_key"];

const TRUST_EXAMPLES: &str = "\
Examples:
  fleet trust -g web                  shows the keys that known_hosts lacks, and asks once
  fleet trust -a --yes                for scripts: records them unasked
  fleet trust --replace web03         web03 was installed anew: its new key for its old one

Nobody is logged in. A key that changed is refused unless its host is named by --replace; one
that is @revoked is refused always. Exit code 3: a host's key is not in known_hosts afterwards.";

const MAN_EXAMPLES: &str = "\
Examples:
  fleet man ~/.local/share/man/man1     one page for fleet and one for each verb
  fleet man | man -l -                  to look at the first";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  fleet completions bash > ~/.local/share/bash-completion/completions/fleet
  fleet completions zsh > ~/.zfunc/_fleet         with `fpath+=~/.zfunc` before compinit
  fleet completions fish > ~/.config/fish/completions/fleet.fish
  source <(fleet completions bash)                for this shell alone

Verbs, flags, values, and the hosts and groups of the inventory that the line names.";

const HOSTS_EXAMPLES: &str = "\
Examples:
  fleet hosts -w '@web!web03' -f            web[01-02,04-20]
  fleet hosts -w 'a[1-10]!a5' -f            calculates as nodeset does; no inventory is needed
  fleet hosts -w vars.role=db --pick 2 -v   two databases at random, and how to reach them
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
    help_template = "{about-with-newline}\n{usage-heading} {usage}\n\nVerbs:\n{subcommands}{after-help}",
    subcommand_value_name = "VERB",
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
    /// Run a local script on each host
    Script(Script),
    /// Copy local files or directories to each host
    Put(Put),
    /// Copy a file or directory from each host
    Get(Get),
    /// Log in to each host and do nothing
    Ping(Ping),
    /// Let a public key in on each host, and prove it by a login
    CopyId(CopyId),
    /// List the selected hosts; contacts nothing
    Hosts(Hosts),
    /// Record the keys of new hosts, once you said yes
    Trust(Trust),
    /// Print what completes command lines in bash, zsh or fish
    Completions(Completions),
    /// Write the manual pages
    Man(Manual),
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
    pub(crate) context: Context,
    #[command(flatten)]
    pub(crate) become_user: BecomeUser,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
    #[command(flatten)]
    pub(crate) ending: Ending,
    #[command(flatten)]
    pub(crate) run: Run,
    #[command(flatten)]
    pub(crate) same: Same,
    #[command(flatten)]
    pub(crate) again: Again,
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

    /// Returns the first flag among the command's words, and the word behind it.
    pub(crate) fn first_flag(&self) -> Option<(&str, &str)> {
        let flag = self.command.iter().skip(1).position(|word| word.as_encoded_bytes().starts_with(b"-"))? + 1;
        Some((self.command.get(flag)?.to_str()?, self.command.get(flag + 1)?.to_str()?))
    }
}

#[derive(Args, Debug)]
#[command(after_help = SCRIPT_EXAMPLES, override_usage = "fleet script [flags] FILE [ARGS…]")]
pub(crate) struct Script {
    /// The local script, - for standard input; then its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "FILE")]
    words: Vec<OsString>,
    #[command(flatten)]
    pub(crate) select: Select,
    #[command(flatten)]
    pub(crate) connect: Connect,
    #[command(flatten)]
    pub(crate) context: Context,
    #[command(flatten)]
    pub(crate) become_user: BecomeUser,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
    #[command(flatten)]
    pub(crate) ending: Ending,
    #[command(flatten)]
    pub(crate) run: Run,
    #[command(flatten)]
    pub(crate) same: Same,
    #[command(flatten)]
    pub(crate) again: Again,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) lines: Lines,
}

impl Script {
    /// Returns the script and its arguments.
    pub(crate) fn file(&self) -> (PathBuf, &[OsString]) {
        match self.words.split_first() {
            Some((file, args)) => (PathBuf::from(file), args),
            None => unreachable!("clap requires a word"),
        }
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
    pub(crate) again: Again,
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
    pub(crate) again: Again,
    #[command(flatten)]
    pub(crate) output: Output,
}

impl Get {
    pub(crate) fn remote(&self) -> Vec<u8> {
        self.remote.clone().into_vec()
    }
}

#[derive(Args, Debug)]
#[command(after_help = PING_EXAMPLES, override_usage = "fleet ping [flags]")]
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
#[command(after_help = COPY_ID_EXAMPLES, override_usage = "fleet copy-id [flags]")]
pub(crate) struct CopyId {
    /// Public key, or the private one beside it [default: your identity's]
    #[arg(long, value_name = "PATH", env = "FLEET_KEY", hide_env = true)]
    pub(crate) key: Option<PathBuf>,
    /// Do not log in with the key afterwards
    #[arg(long, value_parser = flag(), env = "FLEET_NO_PROOF", hide_env = true)]
    pub(crate) no_proof: bool,
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

#[derive(Args, Debug)]
#[command(after_help = HOSTS_EXAMPLES, override_usage = "fleet hosts [flags]")]
pub(crate) struct Hosts {
    #[command(flatten)]
    pub(crate) select: Select,
    #[command(flatten)]
    pub(crate) connect: Connect,
    /// Show every setting of a host, and where it comes from
    #[arg(long, value_name = "HOST", help_heading = "Output",
        conflicts_with_all = ["hosts", "group", "all", "slice", "pick", "seed", "fold", "expand", "count", "groups", "format", "verbose"])]
    pub(crate) explain: Option<String>,
    /// Print one folded expression: web[01-20]
    #[arg(short, long, help_heading = "Output",
        conflicts_with_all = ["expand", "count", "groups", "format", "verbose"])]
    pub(crate) fold: bool,
    /// Print the names in one line
    #[arg(short, long, help_heading = "Output", conflicts_with_all = ["count", "groups", "format", "verbose"])]
    pub(crate) expand: bool,
    /// What stands between the names of --expand [default: a space]
    #[arg(
        short = 'S',
        long,
        value_name = "TEXT",
        help_heading = "Output",
        requires = "expand",
        allow_hyphen_values = true
    )]
    pub(crate) separator: Option<String>,
    /// Print only how many there are
    #[arg(short, long, help_heading = "Output", conflicts_with_all = ["groups", "format", "verbose"])]
    pub(crate) count: bool,
    /// Print the groups that hold them as a tree, each with its hosts folded
    #[arg(long, help_heading = "Output", conflicts_with = "verbose")]
    pub(crate) groups: bool,
    /// Show user, address, port and groups too
    #[arg(short, long, help_heading = "Output", conflicts_with = "format")]
    pub(crate) verbose: bool,
    /// Form: text, json or jsonl (one object a line), csv [default: text]
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

#[derive(Args, Debug)]
#[command(after_help = TRUST_EXAMPLES, override_usage = "fleet trust [flags]")]
#[command(mut_args(|arg| if LOGIN_FLAGS.contains(&arg.get_id().as_str()) { arg.hide(true) } else { arg }))]
pub(crate) struct Trust {
    /// Record without asking
    #[arg(short, long, help_heading = "Trust")]
    pub(crate) yes: bool,
    /// Take this host's key also where it changed [selects it where nothing is selected]
    #[arg(long, value_name = "HOST", help_heading = "Trust")]
    pub(crate) replace: Vec<String>,
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
#[command(after_help = COMPLETIONS_EXAMPLES, override_usage = "fleet completions bash|zsh|fish")]
pub(crate) struct Completions {
    /// bash, zsh or fish
    #[arg(value_enum, hide_possible_values = true)]
    pub(crate) shell: Shell,
}

/// A shell that fleet's command line is completed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Args, Debug)]
#[command(after_help = MAN_EXAMPLES, override_usage = "fleet man [DIR]")]
pub(crate) struct Manual {
    /// Where they are written [default: the page of fleet is printed]
    pub(crate) dir: Option<PathBuf>,
}
