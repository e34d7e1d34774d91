use std::process::ExitCode;

use crate::cli::args::Ping;
use crate::cli::exit::Refusal;
use crate::cli::run::Request;
use crate::cli::screen::Screen;

/// Logs in to each host.
pub(crate) fn run(args: &Ping, screen: &Screen) -> Result<ExitCode, Refusal> {
    let request = Request {
        select: &args.select,
        connect: &args.connect,
        run: &args.run,
        output: &args.output,
        timeout: None,
        ending: None,
        become_user: None,
        lines: None,
        pattern: None,
        out_dir: None,
        same_output: None,
        retry_op: None,
        what: "ping".to_owned(),
    };
    request.run(|| Ok(fleet::Ping), screen)
}
