use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Args;
use fleet::pool::{Threshold, Wave};

use super::super::exit::Refusal;
use super::super::usage;
use super::values::{Order, duration, flag, number, percent, positive, size, threshold, wave};

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
    /// Waves: so many hosts, or parts of them, cumulative, each when the one before has ended: 1,10%
    #[arg(long, value_name = "N|P%,…", value_delimiter = ',', value_parser = wave, env = "FLEET_ROLLOUT", hide_env = true)]
    pub(crate) rollout: Vec<Wave>,
    /// Ask on the terminal before each wave but the first
    #[arg(long, value_parser = flag(), env = "FLEET_CONFIRM", hide_env = true)]
    pub(crate) confirm: bool,
    /// Let each host wait for a random time up to this [default: 0]
    #[arg(long, value_name = "TIME", value_parser = duration, env = "FLEET_SPLAY", hide_env = true)]
    pub(crate) splay: Option<Duration>,
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
    /// Refuses waves that do not rise, and what only waves have without them.
    pub(crate) fn check(&self, same_output: Option<u8>) -> Result<(), Refusal> {
        for pair in self.rollout.windows(2) {
            let [first, second] = pair else { continue };
            let rises = match (first, second) {
                (Wave::Count(first), Wave::Count(second)) => first < second,
                (Wave::Percent(first), Wave::Percent(second)) => first < second,
                _ => true,
            };
            if !rises {
                let what =
                    "the waves of --rollout count from the first host: each must reach further than the one before";
                return Err(Refusal::usage(what).hint("--rollout 1,10%,50%"));
            }
        }
        let alone = [("confirm", self.confirm), ("same_output", same_output.is_some())];
        // A variable may stand for all runs.
        let is_typed = |id: &str| usage::is_flag(std::env::args_os(), id);
        match alone.into_iter().find(|(id, is_set)| *is_set && self.rollout.is_empty() && is_typed(id)) {
            Some((id, _)) => Err(Refusal::usage(format!("--{} needs --rollout", id.replace('_', "-")))),
            None => Ok(()),
        }
    }

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

/// How often something is done again.
#[derive(Args, Debug)]
#[command(next_help_heading = "Run")]
pub(crate) struct Again {
    /// Do it again when the connection ends under it, so many times; a command must bear that [default: 0]
    #[arg(long, value_name = "N", value_parser = number, env = "FLEET_RETRY_OP", hide_env = true)]
    pub(crate) retry_op: Option<u32>,
}

/// What the hosts of a wave must have in common.
#[derive(Args, Debug)]
#[command(next_help_heading = "Run")]
pub(crate) struct Same {
    /// The next wave begins only if so many of a wave's hosts gave the same output and status
    #[arg(long, value_name = "P%", value_parser = percent, env = "FLEET_SAME_OUTPUT", hide_env = true)]
    pub(crate) same_output: Option<u8>,
}

/// When and how a command is ended.
#[derive(Args, Debug)]
#[command(next_help_heading = "Run")]
pub(crate) struct Ending {
    /// Silence after which a command is ended; 0 is no limit [default: 0]
    #[arg(long, value_name = "TIME", value_parser = duration, env = "FLEET_IDLE_TIMEOUT", hide_env = true)]
    pub(crate) idle_timeout: Option<Duration>,
    /// Time from TERM to KILL when a command is ended [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = duration, env = "FLEET_KILL_AFTER", hide_env = true)]
    pub(crate) kill_after: Option<Duration>,
    /// Size of output that ends a command: 64KiB, 10MiB; 0 is none [default: 1GiB for jsonl and csv]
    #[arg(long, value_name = "SIZE", value_parser = size, env = "FLEET_MAX_OUTPUT", hide_env = true)]
    pub(crate) max_output: Option<u64>,
    /// Go without the guard that ends a command when fleet is gone
    #[arg(long, value_parser = flag(), env = "FLEET_NO_GUARD", hide_env = true)]
    pub(crate) no_guard: bool,
}
