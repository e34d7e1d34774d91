use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use fleet::inventory::Slice;

use super::values::positive;

/// Which hosts.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Select")]
pub(crate) struct Select {
    /// Inventory, several for several, none for none [default: ./hosts.toml, ~/.config/fleet/hosts.toml]
    #[arg(short, long, value_name = "PATH", env = "FLEET_INVENTORY", hide_env = true)]
    pub(crate) inventory: Vec<PathBuf>,
    /// Hosts: names, web[01-20], @group, globs, @file:PATH, - [default: all]
    #[arg(short = 'w', long, short_alias = 'H', value_name = "EXPR", conflicts_with = "all")]
    pub(crate) hosts: Vec<String>,
    /// Hosts of a group, in addition
    #[arg(short, long, value_name = "NAME", conflicts_with = "all")]
    pub(crate) group: Vec<String>,
    /// Hosts to leave out
    #[arg(short = 'x', long, value_name = "EXPR", env = "FLEET_EXCLUDE", hide_env = true)]
    pub(crate) exclude: Vec<String>,
    /// Every host of the inventory, whatever $FLEET_HOSTS says
    #[arg(short, long)]
    pub(crate) all: bool,
    /// The part of them by place, as Python cuts: :10, -5:, ::2
    #[arg(long, value_name = "A:B", env = "FLEET_SLICE", hide_env = true, allow_hyphen_values = true)]
    pub(crate) slice: Option<Slice>,
    /// That many of them at random
    #[arg(long, value_name = "N", env = "FLEET_PICK", hide_env = true, value_parser = positive)]
    pub(crate) pick: Option<NonZeroUsize>,
    /// What --pick draws by, to draw the same again
    #[arg(long, value_name = "N", env = "FLEET_SEED", hide_env = true)]
    pub(crate) seed: Option<u64>,
}
