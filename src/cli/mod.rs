//! The command line: argv → plan → run → exit code. Everything that prints, prompts or exits is here.

mod args;
mod complete;
mod enter;
mod exit;
mod folding;
mod habits;
mod keys;
mod manual;
mod plan;
mod progress;
mod prompt;
mod run;
mod running;
mod screen;
mod signal;
mod stdin;
mod ticker;
mod usage;
mod verbs;

use std::process::ExitCode;
use std::sync::OnceLock;

use args::Verb;
use exit::Refusal;
use screen::Screen;

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    fleet::ssh::share_heap();
    let screen = Screen::new();
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == complete::WORD) {
        let text = complete::answer(&words.collect::<Vec<_>>());
        return screen.reply(&exit::Reply { text, is_answer: true, code: exit::OK });
    }
    let verb = match usage::parse(std::env::args_os()) {
        Ok(cli) => cli.verb,
        Err(reply) => return screen.reply(&reply),
    };
    let done = match &verb {
        Verb::Exec(args) => verbs::exec::run(args, &screen),
        Verb::Script(args) => verbs::script::run(args, &screen),
        Verb::Put(args) => verbs::put::run(args, &screen),
        Verb::Get(args) => verbs::get::run(args, &screen),
        Verb::Ping(args) => verbs::ping::run(args, &screen),
        Verb::CopyId(args) => verbs::copy_id::run(args, &screen),
        Verb::Trust(args) => verbs::trust::run(args, &screen),
        Verb::Completions(args) => Ok(verbs::completions::run(args, &screen)),
        Verb::Man(args) => verbs::man::run(args, &screen),
        Verb::Hosts(args) => verbs::hosts::run(args, &screen),
    };
    done.unwrap_or_else(|refusal: Refusal| screen.reply(&refusal.reply()))
}

/// Returns what `--version` says after the program's name.
fn version() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| format!("{}\n{}", env!("CARGO_PKG_VERSION"), fleet::ssh::versions()))
}
