use std::process::ExitCode;

use fleet::transport::MAX_COMMAND_BYTES;

use crate::cli::args::Exec;
use crate::cli::exit::Refusal;
use crate::cli::run::Request;
use crate::cli::screen::Screen;

/// Runs a command on each host.
pub(crate) fn run(args: &Exec, screen: &Screen) -> Result<ExitCode, Refusal> {
    let command = args.command();
    if command.trim_ascii().is_empty() {
        return Err(Refusal::usage("the command is empty"));
    }
    if command.len() > MAX_COMMAND_BYTES {
        let what =
            format!("the command has {} bytes, more than the {MAX_COMMAND_BYTES} that SSH carries", command.len());
        return Err(Refusal::usage(what).hint("put it into a script, send that with fleet put, and run it"));
    }
    let request = Request {
        select: &args.select,
        connect: &args.connect,
        run: &args.run,
        output: &args.output,
        timeout: args.timeout.timeout,
        idle_timeout: args.idle.idle_timeout,
        no_prefix: args.lines.no_prefix,
        what: format!("exec: {}", String::from_utf8_lossy(&command)),
    };
    request.run(|| Ok(fleet::Exec::new(command).capture(false)), screen)
}
