//! The command line as its user sees it: all of stdout, all of stderr, and the exit code.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

mod completions;
#[path = "../common/fleet.rs"]
mod fleet;
mod golden;
mod ground;
#[path = "../common/planted.rs"]
mod planted;
mod simulator;
#[path = "../common/sudo.rs"]
mod sudo;
mod terminal;

use fleet::Fleet;
use ground::Ground;
