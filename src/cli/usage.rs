//! argv to [`Cli`], and wrong command lines to messages that say what to type.

use std::ffi::OsString;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};
use fleet::sink::escape;

use super::args::Cli;
use super::exit::{OK, Reply, USAGE};

/// Reads the command line, with `FLEET_*` below it.
///
/// A flag beats the environment, also one that contradicts it: `--fail-fast` with FLEET_MAX_FAIL set is no conflict. So
/// the flags are read alone first, and what contradicts them is not looked up in the environment.
pub(crate) fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Cli, Reply> {
    let mut argv: Vec<OsString> = argv.into_iter().collect();
    if argv.get(1).is_some_and(|word| word == "help") {
        // What `fleet help exec` means.
        argv.remove(1);
        argv.truncate(2);
        argv.push("--help".into());
    }
    let flags = each_verb(Cli::command(), |verb| verb.mut_args(|arg| arg.env(Resettable::Reset)));
    let given = flags.try_get_matches_from(&argv).map_err(|error| reply(&error, &argv, Origin::Flags))?;
    let command = each_verb(Cli::command(), |verb| without_contradictions(verb, &given));
    let matches = command.try_get_matches_from(&argv).and_then(|matches| Cli::from_arg_matches(&matches));
    matches.map_err(|error| reply(&error, &argv, Origin::Environment))
}

/// Tells whether an argument of this process's verb is given as a flag, and not by the environment alone.
pub(crate) fn is_flag(argv: impl IntoIterator<Item = OsString>, name: &str) -> bool {
    let flags = each_verb(Cli::command(), |verb| verb.mut_args(|arg| arg.env(Resettable::Reset)));
    let Ok(given) = flags.try_get_matches_from(argv) else { return false };
    given.subcommand().is_some_and(|(_, verb)| verb.value_source(name) == Some(ValueSource::CommandLine))
}

/// Where what is wrong was written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Flags,
    Environment,
}

fn each_verb(command: Command, change: impl Fn(Command) -> Command) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, &change))
}

fn without_contradictions(verb: Command, given: &ArgMatches) -> Command {
    let Some((name, given)) = given.subcommand() else { return verb };
    if name != verb.get_name() {
        return verb;
    }
    let is_given = |id: &str| given.value_source(id) == Some(ValueSource::CommandLine);
    let contradicted: Vec<_> = verb
        .get_arguments()
        .flat_map(|arg| verb.get_arg_conflicts_with(arg).into_iter().map(move |other| (arg, other)))
        .flat_map(|(a, b)| [(a, b), (b, a)])
        .filter(|(a, _)| is_given(a.get_id().as_str()))
        .map(|(_, b)| b.get_id().clone())
        .collect();
    contradicted.into_iter().fold(verb, |verb, id| verb.mut_arg(id, |arg| arg.env(Resettable::Reset)))
}

fn reply(error: &clap::Error, argv: &[OsString], origin: Origin) -> Reply {
    let rendered = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Reply { text: rendered, is_answer: true, code: OK },
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Reply { text: rendered, is_answer: false, code: USAGE },
        _ => Reply { text: complaint(error, &rendered, argv, origin), is_answer: false, code: USAGE },
    }
}

/// Says what is wrong in fleet's form: `fleet: …`, then `hint: …`.
fn complaint(error: &clap::Error, rendered: &str, argv: &[OsString], origin: Origin) -> String {
    let first = argv.get(1).map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let verbs: Vec<String> = Cli::command().get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    let verb = verbs.iter().find(|verb| **verb == first);
    match (error.kind(), verb) {
        (ErrorKind::InvalidSubcommand, _) => return unknown_verb(error, &first, argv),
        (ErrorKind::UnknownArgument, None)
            if argv.iter().any(|word| verbs.iter().any(|verb| word == verb.as_str())) =>
        {
            let first = escape(&first);
            return format!("fleet: {first} stands before the verb\nhint: fleet VERB {first} …\n");
        }
        (ErrorKind::MissingRequiredArgument, Some(verb)) => return missing(verb),
        _ => {}
    }
    let mut text = String::new();
    let mut tips = Vec::new();
    for line in rendered.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more")) {
        let line = line.trim();
        if let Some(message) = line.strip_prefix("error: ") {
            text = format!("fleet: {}", escape(message));
        } else if let Some(tip) = line.strip_prefix("tip: ") {
            // How to pass on a flag that fleet does not have is seldom what was meant.
            if !tip.starts_with("to pass ") {
                tips.push(tip);
            }
        } else if !line.is_empty() {
            text.push_str(&format!(" {}", escape(line)));
        }
    }
    text.push('\n');
    // The first is the nearest spelling.
    if let Some(tip) = tips.first() {
        text.push_str(&format!("hint: {}\n", escape(tip)));
    }
    if origin == Origin::Environment {
        text.push_str(&format!("hint: it was set in the environment{}\n", variable(error)));
        return text;
    }
    text.push_str(&match verb {
        Some(verb) => format!("hint: fleet {verb} --help\n"),
        None => "hint: fleet --help\n".to_owned(),
    });
    text
}

/// Names the variable of the flag that an error is about.
fn variable(error: &clap::Error) -> String {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return String::new() };
    let name = flag.trim_start_matches('-').split([' ', '=', '.']).next().unwrap_or_default();
    format!(", by FLEET_{}", name.replace('-', "_").to_uppercase())
}

fn missing(verb: &str) -> String {
    let usage =
        Cli::command().find_subcommand_mut(verb).map(|verb| verb.render_usage().to_string()).unwrap_or_default();
    let usage = usage.trim_start_matches("Usage:").trim();
    format!("fleet: an argument of {verb} is missing\nhint: {usage}\n")
}

/// Somebody typed the command where the verb belongs, or mistyped the verb.
fn unknown_verb(error: &clap::Error, word: &str, argv: &[OsString]) -> String {
    let words: Vec<_> = argv.iter().skip(1).map(|word| quoted(&word.to_string_lossy())).collect();
    let rest: String = words.iter().skip(1).map(|word| format!(" {word}")).collect();
    let meant = match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::String(verb)) => Some(verb),
        Some(ContextValue::Strings(verbs)) => verbs.first(),
        _ => None,
    };
    let word = escape(word);
    match meant {
        Some(verb) => format!("fleet: there is no verb {word}\nhint: fleet {verb}{rest}\n"),
        None => format!("fleet: there is no verb {word}; exec runs a command\nhint: fleet exec {}\n", words.join(" ")),
    }
}

/// Writes a word so that a shell reads it as one.
pub(super) fn quoted(word: &str) -> String {
    let is_plain =
        |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '=' | ':' | ',' | '@' | '%' | '+');
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", escape(&word.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_change_them() {
        assert_eq!(quoted("df"), "df");
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
