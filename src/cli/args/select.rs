use std::path::PathBuf;

use clap::Args;

/// Which hosts.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Select")]
pub(crate) struct Select {
    /// Inventory [default: ./hosts.toml, ~/.config/fleet/hosts.toml]
    #[arg(short, long, value_name = "PATH", env = "FLEET_INVENTORY", hide_env = true)]
    pub(crate) inventory: Option<PathBuf>,
    /// Hosts: names, web[01-20], @group, globs [default: all]
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
}
