use std::process::ExitCode;

use fleet::op;

use crate::cli::args::Put;
use crate::cli::exit::Refusal;
use crate::cli::run::Request;
use crate::cli::screen::Screen;
use crate::cli::usage::quoted;

/// Copies local files to each host.
pub(crate) fn run(args: &Put, screen: &Screen) -> Result<ExitCode, Refusal> {
    let remote = args.remote();
    if remote.is_empty() {
        return Err(Refusal::usage("the remote path is empty"));
    }
    let words: Vec<_> = args.locals.iter().map(|local| quoted(&local.to_string_lossy())).collect();
    refuse_host(&remote, |host, path| format!("fleet put -w {host} {} {path}", words.join(" ")))?;
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

/// Refuses `web1:/tmp`, as scp has it: the selection says which hosts, and it would be a path on each of them.
pub(super) fn refuse_host(remote: &[u8], typed: impl Fn(&str, &str) -> String) -> Result<(), Refusal> {
    let remote = String::from_utf8_lossy(remote);
    let Some((host, path)) = remote.split_once(':') else { return Ok(()) };
    // `C:/` is a path on Windows.
    let is_host = host.chars().count() > 1 && !host.contains('/');
    if !is_host || !(host.contains('@') || path.is_empty() || path.starts_with(['/', '~'])) {
        return Ok(());
    }
    let path = if path.is_empty() { "." } else { path };
    let what = format!("the remote path names a host: {remote}");
    Err(Refusal::usage(what).hint(format!("{}; ./{remote} is a path", typed(&quoted(host), &quoted(path)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_before_the_path_is_refused_and_a_path_is_not() {
        let check = |remote: &str| refuse_host(remote.as_bytes(), |host, path| format!("{host} {path}"));
        for remote in ["/srv/a:/b", "a:b", "C:/Users", "./web1:/tmp", "10:30", "/tmp", "a"] {
            assert!(check(remote).is_ok(), "{remote}");
        }
        for remote in ["web1:/tmp", "web1:", "web1:~/x", "ops@web1:x", "ops@web1:", "10.0.0.1:/tmp"] {
            assert!(check(remote).is_err(), "{remote}");
        }
    }
}
