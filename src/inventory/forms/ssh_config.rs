//! ssh_config as an inventory: the literal names after `Host` are the hosts. What else it says of them stays where it
//! belongs, below the inventory: the caller gives the file to the resolver with the rest of ssh_config.

use std::path::Path;

use super::Form;
use crate::error::Result;
use crate::inventory::build::{Builder, usage};
use crate::ssh_config::{Local, SshConfig};

pub(super) struct Names<'t> {
    config: SshConfig,
    path: &'t Path,
}

impl<'t> Names<'t> {
    pub(super) fn parse(text: &str, path: &'t Path) -> Result<Self> {
        Ok(Self { config: SshConfig::parse(text, path, Local::from_system())?, path })
    }
}

impl Form for Names<'_> {
    fn fill(&self, builder: &mut Builder) -> Result<()> {
        for name in self.config.names() {
            builder.host(name).map_err(|why| usage(format!("{}: {why}", self.path.display())))?;
        }
        builder.inventory.ssh_configs.push(self.path.to_owned());
        Ok(())
    }
}
