use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Args;
use fleet::pool::Threshold;

use super::values::{Order, duration, flag, positive, threshold};

/// How the run goes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Run")]
pub(crate) struct Run {
    /// Hosts at once; also --forks [default: all, up to 256]
    #[arg(short, long, value_name = "N", alias = "forks", value_parser = positive, env = "FLEET_FANOUT", hide_env = true)]
    pub(crate) fanout: Option<NonZeroUsize>,
    /// Time for the whole run; 0 is no limit [default: 0]
    #[arg(long, value_name = "TIME", value_parser = duration, env = "FLEET_DEADLINE", hide_env = true)]
    pub(crate) deadline: Option<Duration>,
    /// Start no more once more than N hosts, or P%, failed [default: 100%]
    #[arg(long, value_name = "N|P%", value_parser = threshold, env = "FLEET_MAX_FAIL", hide_env = true)]
    pub(crate) max_fail: Option<Threshold>,
    /// Start no more once a host failed, as --max-fail 0
    #[arg(long, value_parser = flag(), conflicts_with = "max_fail", env = "FLEET_FAIL_FAST", hide_env = true)]
    pub(crate) fail_fast: bool,
    /// Order of the hosts: file, name or random [default: file]
    #[arg(
        long,
        value_enum,
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true,
        env = "FLEET_ORDER",
        hide_env = true
    )]
    pub(crate) order: Order,
    /// Show what would be done where, and contact nothing
    #[arg(long, value_parser = flag(), env = "FLEET_DRY_RUN", hide_env = true)]
    pub(crate) dry_run: bool,
}

impl Run {
    /// Returns how many hosts may fail.
    pub(crate) fn threshold(&self) -> Option<Threshold> {
        if self.fail_fast { Some(Threshold::Count(0)) } else { self.max_fail }
    }
}

/// How long the operation may take on one host.
#[derive(Args, Debug)]
#[command(next_help_heading = "Run")]
pub(crate) struct Timeout {
    /// Time for each host from the login on; 0 is no limit [default: 0]
    #[arg(short = 'u', long, value_name = "TIME", value_parser = duration, env = "FLEET_TIMEOUT", hide_env = true)]
    pub(crate) timeout: Option<Duration>,
}

/// How long a command may be silent.
#[derive(Args, Debug)]
#[command(next_help_heading = "Run")]
pub(crate) struct Idle {
    /// Silence after which a command is ended; 0 is no limit [default: 0]
    #[arg(long, value_name = "TIME", value_parser = duration, env = "FLEET_IDLE_TIMEOUT", hide_env = true)]
    pub(crate) idle_timeout: Option<Duration>,
}
