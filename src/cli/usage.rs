//! argv to [`Cli`], and wrong command lines to messages that say what to type.

use std::ffi::OsString;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};
use fleet::sink::escape;

use super::args::{Cli, FOOTNOTES};
use super::exit::{OK, Reply, USAGE};
use super::habits;

/// Returns the definition of the command line, from which help, manual pages and completions are made, too.
pub(crate) fn command() -> Command {
    each_verb(Cli::command(), |verb| {
        let help = Arg::new("help").short('h').long("help").action(ArgAction::Help).help("Print this");
        // Where a verb has no such group, it has few flags.
        let has_output = verb.get_arguments().any(|arg| arg.get_help_heading() == Some("Output"));
        let help = if has_output { help.help_heading("Output") } else { help };
        let runs = verb.get_arguments().any(|arg| arg.get_id() == "connect_timeout");
        let notes = match verb.get_after_help() {
            Some(notes) if runs => format!("{notes}\n\n{FOOTNOTES}"),
            Some(notes) => notes.to_string(),
            None => String::new(),
        };
        verb.disable_help_flag(true).arg(help).after_help(notes)
    })
}

/// Reads the command line, with `FLEET_*` below it.
///
/// A flag beats the environment, also one that contradicts it: `--fail-fast` with FLEET_MAX_FAIL set is no conflict. So
/// the flags are read alone first, and what contradicts them is not looked up in the environment.
pub(crate) fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Cli, Reply> {
    let mut argv: Vec<OsString> = argv.into_iter().collect();
    if argv.get(1).is_some_and(|word| word == "help") {
        if let Some(word) = argv.get(2).map(|word| word.to_string_lossy())
            && command().find_subcommand(&*word).is_none()
        {
            let text = format!("fleet: there is no verb {}\nhint: fleet --help lists them\n", escape(&word));
            return Err(Reply { text, is_answer: false, code: USAGE });
        }
        // What `fleet help exec` means.
        argv.remove(1);
        argv.truncate(2);
        argv.push("--help".into());
    }
    let flags = each_verb(command(), |verb| verb.mut_args(|arg| arg.env(Resettable::Reset)));
    let given = flags.try_get_matches_from(&argv).map_err(|error| reply(&error, &argv, Origin::Flags))?;
    let command = each_verb(command(), |verb| without_contradictions(verb, &given));
    let matches = command.try_get_matches_from(&argv).and_then(|matches| Cli::from_arg_matches(&matches));
    matches.map_err(|error| reply(&error, &argv, Origin::Environment))
}

/// Tells whether an argument of this process's verb is given as a flag, and not by the environment alone.
pub(crate) fn is_flag(argv: impl IntoIterator<Item = OsString>, name: &str) -> bool {
    let flags = each_verb(command(), |verb| verb.mut_args(|arg| arg.env(Resettable::Reset)));
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
    let words: Vec<String> = argv.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let first = words.first().map_or("", String::as_str);
    let cli = command();
    let verb = cli.find_subcommand(first).map(Command::get_name);
    match (error.kind(), verb) {
        (ErrorKind::InvalidSubcommand, _) => return unknown_verb(&cli, first, &words),
        (ErrorKind::UnknownArgument, None) if let Some(text) = misplaced(&cli, error, &words) => return text,
        (ErrorKind::MissingRequiredArgument, Some(verb)) => return missing(verb, &words),
        (ErrorKind::UnknownArgument, verb) => {
            let verb = verb.and_then(|name| cli.find_subcommand(name)).unwrap_or(&cli);
            return unknown_flag(error, verb, &words);
        }
        _ => {}
    }
    let mut text = String::new();
    let mut tips = Vec::new();
    for line in rendered.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more")) {
        let line = line.trim();
        if let Some(message) = line.strip_prefix("error: ") {
            text = format!("fleet: {}", escape(message));
        } else if let Some(tip) = line.strip_prefix("tip: ") {
            tips.push(tip);
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
        _ if let Some(hint) = meant(error) => format!("hint: {hint}\n"),
        Some(verb) => format!("hint: fleet {verb} --help\n"),
        None => "hint: fleet --help\n".to_owned(),
    });
    text
}

/// What a value that does not fit was meant to be with another tool.
fn meant(error: &clap::Error) -> Option<&'static str> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let flag = text(ContextKind::InvalidArg)?.split([' ', '=']).next()?;
    habits::value(flag, text(ContextKind::InvalidValue)?)
}

/// A flag that the verb does not have: how fleet calls what other tools call so, else the nearest.
fn unknown_flag(error: &clap::Error, verb: &Command, words: &[String]) -> String {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return no_flag("", verb) };
    // What stands behind it may be a password.
    let flag = flag.split_once('=').map_or(flag.as_str(), |(name, _)| name);
    let text = no_flag(flag, verb);
    if !flag.starts_with('-') {
        let rest = words.get(1..).unwrap_or_default();
        return match verb.get_positionals().next() {
            // The selection has a flag everywhere.
            None if rest.first().is_some_and(|word| word == flag) => {
                let (hosts, flags) = rest.split_at(rest.iter().take_while(|word| !word.starts_with('-')).count());
                let words = [vec!["-w".to_owned(), hosts.join(",")], flags.to_vec()].concat();
                format!("{text}hint: {}\n", typed(verb.get_name(), &words))
            }
            _ => format!("{text}hint: fleet {} --help\n", verb.get_name()),
        };
    }
    format!("{text}hint: {}\n", instead(error, flag, verb))
}

/// What to type instead of a flag that the verb does not have.
fn instead(error: &clap::Error, flag: &str, verb: &Command) -> String {
    if let Some(hint) = habits::flag(flag, verb) {
        return hint.to_owned();
    }
    let nearest = match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(nearest)) => nearest.split([' ', '=']).next(),
        _ => None,
    };
    let help = if verb.get_name() == "fleet" { "fleet".to_owned() } else { format!("fleet {}", verb.get_name()) };
    match nearest {
        Some(nearest) => format!("did you mean {nearest}? {help} --help lists the flags"),
        None => format!("{help} --help lists the flags"),
    }
}

fn no_flag(flag: &str, verb: &Command) -> String {
    let of = if verb.get_name() == "fleet" { String::new() } else { format!("{} ", verb.get_name()) };
    match flag.starts_with('-') {
        true => format!("fleet: {of}has no flag {}\n", escape(flag)).replace("fleet: has no", "fleet: there is no"),
        false => format!("fleet: {of}takes no further argument {}\n", escape(flag)),
    }
}

/// Flags stand behind the verb: says how the same is written, where that is clear.
fn misplaced(cli: &Command, error: &clap::Error, words: &[String]) -> Option<String> {
    let first = words.first().filter(|word| word.len() > 1 && word.starts_with('-'))?;
    let flag = first.split_once('=').map_or(first.as_str(), |(name, _)| name);
    let is_verb = |word: &String| cli.find_subcommand(word).is_some();
    let (verb, rest) = match words.iter().position(is_verb) {
        Some(at) => {
            let (before, from) = words.split_at(at);
            let (verb, after) = from.split_first()?;
            (verb.as_str(), [before, after].concat())
        }
        None => ("exec", words.to_vec()),
    };
    let has_verb = words.iter().any(is_verb);
    let argv = ["fleet", verb].into_iter().map(str::to_owned).chain(rest.iter().cloned());
    let read = command().try_get_matches_from(argv);
    if let Err(wrong) = &read
        && wrong.kind() == ErrorKind::UnknownArgument
    {
        // One of fleet's own may be meant: `fleet --versoin`.
        let is_near = error.get(ContextKind::SuggestedArg).is_some();
        let verb = cli.find_subcommand(verb).filter(|_| has_verb || !is_near)?;
        return Some(if has_verb { unknown_flag(wrong, verb, words) } else { no_such_flag(wrong, cli, verb) });
    }
    let flag = escape(flag);
    // Behind the flags and their values.
    let commanded = read.as_ref().ok().and_then(|read| read.subcommand()?.1.get_raw("command").map(Iterator::count));
    let at = rest.len() - commanded.unwrap_or(0).min(rest.len());
    let nearest = rest.get(at).filter(|_| !has_verb).and_then(|word| nearest_verb(cli, word));
    Some(match nearest {
        _ if has_verb => format!("fleet: {flag} stands before the verb\nhint: {}\n", typed(verb, &rest)),
        Some(meant) => {
            let (flags, from) = rest.split_at(at);
            let others = [flags, from.get(1..).unwrap_or_default()].concat();
            format!("fleet: {flag} stands before the verb\nhint: {}\n", typed(&meant, &others))
        }
        None => format!("fleet: there is no verb; exec runs a command\nhint: {}\n", typed(verb, &rest)),
    })
}

/// A line without a verb, with a flag that no run of a command has either.
fn no_such_flag(error: &clap::Error, cli: &Command, exec: &Command) -> String {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return no_flag("", cli) };
    let flag = flag.split_once('=').map_or(flag.as_str(), |(name, _)| name);
    format!("{}hint: {}\n", no_flag(flag, cli), instead(error, flag, exec))
}

/// Returns the verb that a word is a slip of.
fn nearest_verb(cli: &Command, word: &str) -> Option<String> {
    let letters = |word: &str| {
        let mut letters: Vec<char> = word.chars().collect();
        letters.sort_unstable();
        letters
    };
    let is_near = |name: &&str| match word.chars().count() {
        // Most short words are commands.
        0..=3 => letters(name) == letters(word),
        4..=6 => strsim::osa_distance(name, word) == 1,
        _ => strsim::osa_distance(name, word) <= 2,
    };
    cli.get_subcommands().map(Command::get_name).find(is_near).map(str::to_owned)
}

/// Writes what should have been typed. What follows a flag that may be about passwords is not repeated.
fn typed(verb: &str, words: &[String]) -> String {
    if words.iter().any(|word| word.starts_with("--pass")) {
        return format!("fleet {verb} …");
    }
    if words.is_empty() { format!("fleet {verb}") } else { format!("fleet {verb} {}", typed_words(words)) }
}

fn typed_words(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// Names the variable of the flag that an error is about.
fn variable(error: &clap::Error) -> String {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return String::new() };
    let name = flag.trim_start_matches('-').split([' ', '=', '.']).next().unwrap_or_default();
    format!(", by FLEET_{}", name.replace('-', "_").to_uppercase())
}

fn missing(verb: &str, words: &[String]) -> String {
    let given = typed(verb, words.get(1..).unwrap_or_default());
    match verb {
        "exec" => format!("fleet: exec needs a command to run\nhint: {given} COMMAND…, such as: {given} uptime\n"),
        "script" => format!("fleet: script needs a local script to run\nhint: {given} FILE [ARGS…]\n"),
        "put" => match lacks_one(words) {
            true => format!("fleet: put needs to know where it goes\nhint: {given} REMOTE\n"),
            false => format!("fleet: put needs what to send, and where it goes\nhint: {given} LOCAL… REMOTE\n"),
        },
        "get" => match lacks_one(words) {
            true => format!("fleet: get needs to know where it goes\nhint: {given} LOCAL_DIR\n"),
            false => format!("fleet: get needs what to fetch, and where it goes\nhint: {given} REMOTE LOCAL_DIR\n"),
        },
        verb => {
            let mut cli = command();
            let usage = cli.find_subcommand_mut(verb).map(|verb| verb.render_usage().to_string()).unwrap_or_default();
            let usage = usage.trim_start_matches("Usage:").trim();
            format!("fleet: an argument of {verb} is missing\nhint: {usage}\n")
        }
    }
}

/// Tells whether one path was given: with a second, the line is complete.
fn lacks_one(words: &[String]) -> bool {
    let argv = ["fleet"].into_iter().map(str::to_owned).chain(words.iter().cloned()).chain(["x".to_owned()]);
    command().try_get_matches_from(argv).is_ok()
}

/// Somebody typed the command or the hosts where the verb belongs, or mistyped the verb.
fn unknown_verb(cli: &Command, word: &str, words: &[String]) -> String {
    let rest = words.get(1..).unwrap_or_default();
    let shown = escape(word);
    let meant = habits::verb(word).map(str::to_owned).or_else(|| nearest_verb(cli, word));
    match meant {
        _ if let Some((verb, words)) = habits::hosts_first(word, rest) => {
            format!("fleet: there is no verb {shown}; hosts are named with -w\nhint: {}\n", typed(verb, &words))
        }
        Some(verb) => format!("fleet: there is no verb {shown}\nhint: {}\n", typed(&verb, rest)),
        None => format!("fleet: there is no verb {shown}; exec runs a command\nhint: {}\n", typed("exec", words)),
    }
}

/// Writes a word so that a shell reads it as one.
pub(crate) fn quoted(word: &str) -> String {
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
        command().debug_assert();
    }

    #[test]
    fn the_help_fits_a_screen_and_every_verb_has_examples() {
        let help = command().render_help().to_string();
        // The last row has the prompt.
        assert!(help.lines().count() < 24 && help.lines().all(|line| line.chars().count() <= 80), "{help}");
        for verb in command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let after = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.starts_with("Examples:\n  fleet "), "{}: {after}", verb.get_name());
        }
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_change_them() {
        assert_eq!(quoted("df"), "df");
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
