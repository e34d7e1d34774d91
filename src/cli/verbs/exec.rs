use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fleet::inventory::{Inventory, Lookup, Selector};
use fleet::transport::MAX_COMMAND_BYTES;

use crate::cli::args::{Exec, Select};
use crate::cli::exit::Refusal;
use crate::cli::run::Request;
use crate::cli::screen::Screen;

/// Runs a command on each host.
pub(crate) fn run(args: &Exec, screen: &Screen) -> Result<ExitCode, Refusal> {
    let command = args.command();
    if command.trim_ascii().is_empty() {
        return Err(Refusal::usage("the command is empty"));
    }
    check_length("the command", command.len())?;
    if !args.output.quiet
        && let Some(slip) = slip(args)
    {
        screen.hint(&slip);
    }
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
        what: format!("exec: {}", String::from_utf8_lossy(&command)),
    };
    // Who asks for it says that the command bears it.
    let may_repeat = args.again.retry_op.is_some();
    let exec = fleet::Exec::new(command).capture(false).idempotent(may_repeat).within(args.context.make());
    let exec = match args.context.input()? {
        Some(input) => exec.stdin(input),
        None => exec,
    };
    let exec = match args.context.pty() {
        Some(pty) => exec.pty(pty),
        None => exec,
    };
    let looked_at = exec.clone();
    let each = |host: &fleet::Host, index, total| {
        let line = looked_at.command_for(host, index, total)?;
        check_length(&format!("the command of {}", host.name), looked_at.command_len(host, index, total)?)?;
        Ok(format!("exec{}: {}", by_sudo(host), String::from_utf8_lossy(&line)))
    };
    request.run_each(|| Ok(exec), &each, screen)
}

/// Returns a hint where the command has a flag that may have been meant for fleet: `fleet exec df -w web1`.
///
/// Commands have such flags too (`grep -w`): it is one only if nothing else says who is meant, and the word behind it does.
fn slip(args: &Exec) -> Option<String> {
    let Select { inventory, hosts, group, exclude, all, .. } = &args.select;
    let is_selected = *all || !(hosts.is_empty() && group.is_empty() && exclude.is_empty());
    if is_selected || std::env::args_os().any(|word| word == "--") {
        return None;
    }
    let (flag, value) = args.first_flag()?;
    let mut selector = Selector::default();
    match flag {
        "-w" | "-x" => selector.hosts.push(value.to_owned()),
        "-g" => selector.groups.push(value.to_owned()),
        "-i" if inventory.is_empty() => {}
        _ => return None,
    }
    let fits = match flag {
        "-i" => Path::new(value).extension().is_some_and(|extension| extension == "toml"),
        _ if value == "-" => false,
        _ => {
            let mut lookup = Lookup::from_env();
            lookup.deadline = Some(Instant::now() + Duration::from_secs(1));
            // Whatever is wrong with the inventory is told by the run.
            let inventory = Inventory::open_all(inventory, &lookup).ok()?;
            inventory.select(&selector).is_ok()
        }
    };
    let shown = fleet::sink::escape(value);
    fits.then(|| {
        format!(
            "{flag} {shown} belongs to the command here; flags of fleet stand before it: fleet exec {flag} {shown} …"
        )
    })
}

/// Says as whom it runs, where that is not the login's user: ` by sudo as root`.
pub(super) fn by_sudo(host: &fleet::Host) -> String {
    host.become_user.as_ref().map(|become_user| format!(" by sudo as {}", become_user.user)).unwrap_or_default()
}

fn check_length(what: &str, len: usize) -> Result<(), Refusal> {
    if len <= MAX_COMMAND_BYTES {
        return Ok(());
    }
    let what = format!("{what} has {len} bytes, more than the {MAX_COMMAND_BYTES} that SSH carries");
    Err(Refusal::usage(what).hint("put it into a file and run that with fleet script"))
}
