//! The commands of `Match exec` (ssh_config(5)), where the user allows them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::process::{Command, Stdio};

/// What the commands that were run said, each run once however many hosts ask.
#[derive(Debug, Default)]
pub(super) struct MatchExec(RefCell<HashMap<String, bool>>);

impl MatchExec {
    /// Tells whether a command succeeds, run by the user's shell as ssh does; one that cannot be run does not.
    pub(super) fn succeeds(&self, command: &str) -> bool {
        if let Some(known) = self.0.borrow().get(command) {
            return *known;
        }
        let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into());
        let mut shell = Command::new(shell);
        let status = shell.arg("-c").arg(command).stdin(Stdio::null()).stdout(Stdio::null()).status();
        let succeeds = status.is_ok_and(|status| status.success());
        self.0.borrow_mut().insert(command.to_owned(), succeeds);
        succeeds
    }
}
