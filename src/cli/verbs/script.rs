use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitCode;

use fleet::ErrorKind;
use fleet::op;

use super::exec::by_sudo;
use crate::cli::args::Script;
use crate::cli::exit::Refusal;
use crate::cli::run::Request;
use crate::cli::screen::Screen;
use crate::cli::stdin;

/// Runs a local script on each host.
pub(crate) fn run(args: &Script, screen: &Screen) -> Result<ExitCode, Refusal> {
    let (file, words) = args.file();
    let script = if file.as_os_str() == "-" {
        if args.context.takes_stdin() {
            return Err(Refusal::usage("standard input cannot be both the script and what it reads"));
        }
        stdin::claim("the script").map_err(Refusal::usage)?;
        let text = op::Script::read(std::io::stdin().lock()).map_err(|error| {
            fleet::Error::new(ErrorKind::Usage, "cannot read the script from standard input").caused_by(error)
        })?;
        op::Script::new(text)?
    } else {
        op::Script::open(&file)?
    };
    let words = words.iter().map(|word| word.clone().into_vec());
    let script = script.args(words).within(args.context.make()).capture(false);
    // Who asks for it says that the script bears it.
    let script = script.idempotent(args.again.retry_op.is_some());
    let name = file.to_string_lossy();
    let request = Request {
        select: &args.select,
        connect: &args.connect,
        run: &args.run,
        output: &args.output,
        timeout: args.timeout.timeout,
        ending: Some(&args.ending),
        become_user: Some(&args.become_user),
        lines: Some(&args.lines),
        pattern: args.lines.pattern()?,
        out_dir: args.lines.out_dir.as_deref(),
        same_output: args.same.same_output,
        retry_op: args.again.retry_op,
        what: format!("script: {name}"),
    };
    let script = match args.context.input()? {
        Some(input) => script.stdin(input),
        None => script,
    };
    let script = match args.context.pty() {
        Some(pty) => script.pty(pty),
        None => script,
    };
    let looked_at = script.clone();
    let each = |host: &fleet::Host, index, total| {
        let line = looked_at.command_for(&name, host, index, total)?;
        Ok(format!("script{}: {}", by_sudo(host), String::from_utf8_lossy(&line)))
    };
    request.run_each(|| Ok(script), &each, screen)
}
