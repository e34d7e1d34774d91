use std::process::ExitCode;

use fleet::op;

use crate::cli::args::Put;
use crate::cli::exit::Refusal;
use crate::cli::run::Request;
use crate::cli::screen::Screen;

/// Copies local files to each host.
pub(crate) fn run(args: &Put, screen: &Screen) -> Result<ExitCode, Refusal> {
    let remote = args.remote();
    if remote.is_empty() {
        return Err(Refusal::usage("the remote path is empty"));
    }
    let names: Vec<_> = args.locals.iter().map(|local| local.display().to_string()).collect();
    let what = format!("put: {} to {}", names.join(" "), String::from_utf8_lossy(&remote));
    // Here, not later: a dry run looks at the local files too.
    let put = op::Put::new(&args.locals, remote)?;
    let request = Request {
        select: &args.select,
        connect: &args.connect,
        run: &args.run,
        output: &args.output,
        timeout: args.timeout.timeout,
        ending: None,
        become_user: None,
        lines: None,
        pattern: None,
        out_dir: None,
        same_output: None,
        retry_op: args.again.retry_op,
        what,
    };
    request.run(|| Ok(put), screen)
}
