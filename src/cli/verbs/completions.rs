use std::io::Write;
use std::process::ExitCode;

use fleet::Stream;

use crate::cli::args::{Completions, Shell};
use crate::cli::exit;
use crate::cli::screen::Screen;

/// Prints the script that completes fleet's command line.
pub(crate) fn run(args: &Completions, screen: &Screen) -> ExitCode {
    let script = match args.shell {
        Shell::Bash => include_str!("../completions/fleet.bash"),
        Shell::Zsh => include_str!("../completions/fleet.zsh"),
        Shell::Fish => include_str!("../completions/fleet.fish"),
    };
    // Whether somebody reads it is told by the code.
    let _ = screen.writer(Stream::Stdout).write_all(script.as_bytes());
    exit::of_listing(screen.is_closed())
}
