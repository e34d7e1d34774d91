use std::process::ExitCode;

use fleet::op;

use crate::cli::args::Get;
use crate::cli::exit::Refusal;
use crate::cli::plan::check_writable;
use crate::cli::run::Request;
use crate::cli::screen::Screen;
use crate::cli::usage::quoted;

use super::put::refuse_host;

/// Copies a file or directory from each host.
pub(crate) fn run(args: &Get, screen: &Screen) -> Result<ExitCode, Refusal> {
    let remote = args.remote();
    if remote.is_empty() {
        return Err(Refusal::usage("the remote path is empty"));
    }
    refuse_host(&remote, |host, path| format!("fleet get -w {host} {path} {}", quoted(&args.dir.to_string_lossy())))?;
    check_writable(&args.dir)?;
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
        what: format!("get: {} to {}", String::from_utf8_lossy(&remote), args.dir.display()),
    };
    request.run(|| op::Get::new(remote, args.dir.clone()), screen)
}
