//! What completes a command line, from the definitions of its flags and from the inventory. The scripts that ask for it are
//! `completions/`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::{Arg, Command, ValueHint};
use fleet::inventory::Lookup;
use fleet::ssh_config::{Local, SshConfig};
use fleet::{HostKeyPolicy, Inventory, hostset};

use super::usage;

/// The word by which the scripts ask; no verb, so that no help has it.
pub(crate) const WORD: &str = "__complete";

/// How many hosts are offered one by one; of more, the ways in which their names go on.
const MAX_HOSTS: usize = 100;

/// How long an inventory that is a program may take: somebody waits at the key.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the shell offers.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Whole words, each with what is said of it.
    Words(Vec<(String, String)>),
    /// Words, some of which go on.
    Partial(Vec<(String, String)>),
    /// The shell's own names of files, for what follows this part of the word.
    Files(String),
}

/// Answers a script: its words after [`WORD`] are `words` and those of the line, or `line` and its text up to the cursor.
///
/// The first line says what follows: `words`, `partial` or `files`, then a tab and the word that is completed; each further
/// line is a candidate, a tab and its description. What cannot be answered has no candidates: nobody wants to read an error here.
pub(crate) fn answer(args: &[OsString]) -> String {
    let args: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let words = match args.split_first() {
        Some((how, [line])) if how == "line" => split(line),
        Some((_, words)) => words.to_vec(),
        None => Vec::new(),
    };
    let current = words.last().map_or("", String::as_str);
    let (kind, candidates) = match complete(&words) {
        Answer::Words(candidates) => ("words", candidates),
        Answer::Partial(candidates) => ("partial", candidates),
        Answer::Files(before) => ("files", vec![(before, String::new())]),
    };
    let mut text = format!("{kind}\t{current}\n");
    for (value, about) in candidates {
        let _ = writeln!(text, "{value}\t{about}");
    }
    text
}

/// Splits a line as a shell does, but for expansions; its last word is what stands before the cursor, perhaps nothing.
/// The program's name is left out.
fn split(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut is_escaped = false;
    for c in line.chars() {
        let Some(word) = words.last_mut() else { unreachable!("there is always a word") };
        match (quote, c) {
            _ if is_escaped => {
                is_escaped = false;
                word.push(c);
            }
            (None | Some('"'), '\\') => is_escaped = true,
            (Some(open), c) if open == c => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ' | '\t' | '\n') if word.is_empty() => {}
            (None, ' ' | '\t' | '\n') => words.push(String::new()),
            (_, c) => word.push(c),
        }
    }
    if words.len() > 1 {
        words.remove(0);
    }
    words
}

fn complete(words: &[String]) -> Answer {
    let cli = usage::command();
    let Some((current, before)) = words.split_last() else { return Answer::Words(Vec::new()) };
    let Some((first, given)) = before.split_first() else { return verbs(&cli, current) };
    match cli.find_subcommand(first) {
        Some(verb) => Line::read(verb, given).complete(current),
        None if first == "help" && given.is_empty() => verbs(&cli, current),
        None => Answer::Words(Vec::new()),
    }
}

fn verbs(cli: &Command, current: &str) -> Answer {
    let shown = cli.get_subcommands().filter(|verb| !verb.is_hide_set());
    let mut words: Vec<_> = shown.map(|verb| (verb.get_name().to_owned(), about(verb.get_about()))).collect();
    if current.starts_with('-') {
        words =
            vec![("--help".to_owned(), "Print help".to_owned()), ("--version".to_owned(), "Print version".to_owned())];
    }
    words.retain(|(word, _)| word.starts_with(current));
    Answer::Words(words)
}

/// What stands on the line before the word that is completed.
struct Line<'a> {
    verb: &'a Command,
    /// The flag whose value comes next.
    pending: Option<&'a Arg>,
    positionals: usize,
    /// Whether flags are read no more.
    is_past_flags: bool,
    inventory: Option<String>,
    ssh_config: Option<String>,
}

impl<'a> Line<'a> {
    fn read(verb: &'a Command, words: &[String]) -> Self {
        let mut line =
            Self { verb, pending: None, positionals: 0, is_past_flags: false, inventory: None, ssh_config: None };
        for word in words {
            line.take(word);
        }
        line
    }

    fn take(&mut self, word: &str) {
        if let Some(arg) = self.pending.take() {
            self.set(arg, word);
        } else if self.is_past_flags || word == "-" || !word.starts_with('-') {
            self.positionals += 1;
            // All that follows belongs to the command.
            self.is_past_flags |= self.positional(self.positionals).is_some_and(Arg::is_trailing_var_arg_set);
        } else if word == "--" {
            self.is_past_flags = true;
        } else if let Some(long) = word.strip_prefix("--") {
            match (long.split_once('='), self.long(long)) {
                (Some((name, value)), _) => {
                    if let Some(arg) = self.long(name) {
                        self.set(arg, value);
                    }
                }
                (None, Some(arg)) if takes_value(arg) => self.pending = Some(arg),
                _ => {}
            }
        } else if let Some((arg, value)) = self.shorts(word) {
            match value {
                "" => self.pending = Some(arg),
                value => self.set(arg, value.trim_start_matches('=')),
            }
        }
    }

    fn set(&mut self, arg: &Arg, value: &str) {
        match arg.get_id().as_str() {
            "inventory" => self.inventory = Some(home(value)),
            "ssh_config" => self.ssh_config = Some(home(value)),
            _ => {}
        }
    }

    fn long(&self, name: &str) -> Option<&'a Arg> {
        let is_named = |arg: &&Arg| {
            arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
        };
        self.verb.get_arguments().find(is_named)
    }

    /// Returns the flag of bundled ones that takes a value, and what stands behind it.
    fn shorts<'w>(&self, word: &'w str) -> Option<(&'a Arg, &'w str)> {
        let letters = word.strip_prefix('-')?;
        letters.char_indices().find_map(|(at, letter)| {
            let is_named = |arg: &&Arg| {
                arg.get_short() == Some(letter)
                    || arg.get_all_short_aliases().is_some_and(|aliases| aliases.contains(&letter))
            };
            let arg = self.verb.get_arguments().find(is_named).filter(|arg| takes_value(arg))?;
            Some((arg, letters.get(at + letter.len_utf8()..).unwrap_or_default()))
        })
    }

    /// Returns the positional argument with this number, from 1; the last may be many.
    fn positional(&self, number: usize) -> Option<&'a Arg> {
        let positionals: Vec<&Arg> = self.verb.get_positionals().collect();
        let is_last_many = positionals.last().is_some_and(|arg| arg.is_trailing_var_arg_set());
        positionals.get(number - 1).or(positionals.last().filter(|_| is_last_many)).copied()
    }

    fn complete(&self, current: &str) -> Answer {
        if let Some(arg) = self.pending {
            return self.value(arg, "", current);
        }
        if self.is_past_flags || !current.starts_with('-') || current == "-" && self.positionals > 0 {
            return match self.positional(self.positionals + 1) {
                Some(arg) => self.value(arg, "", current),
                // `put` has as many files as are given.
                None if self.verb.get_name() == "put" => Answer::Files(String::new()),
                None => Answer::Words(Vec::new()),
            };
        }
        if let Some((name, value)) = current.strip_prefix("--").and_then(|long| long.split_once('=')) {
            return match self.long(name) {
                Some(arg) => self.value(arg, &format!("--{name}="), value),
                None => Answer::Words(Vec::new()),
            };
        }
        if !current.starts_with("--")
            && let Some((arg, value)) = self.shorts(current).filter(|(_, value)| !value.is_empty())
        {
            return self.value(arg, current.strip_suffix(value).unwrap_or_default(), value);
        }
        self.flags(current)
    }

    fn flags(&self, current: &str) -> Answer {
        let args: Vec<&Arg> =
            self.verb.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set()).collect();
        let longs = args.iter().filter_map(|arg| Some((format!("--{}", arg.get_long()?), about(arg.get_help()))));
        let shorts = args.iter().filter_map(|arg| Some((format!("-{}", arg.get_short()?), about(arg.get_help()))));
        Answer::Words(longs.chain(shorts).filter(|(word, _)| word.starts_with(current)).collect())
    }

    /// Completes a value that begins after `before` in its word.
    fn value(&self, arg: &Arg, before: &str, typed: &str) -> Answer {
        let of = |words: Vec<&str>| {
            let fitting = words.into_iter().filter(|word| word.starts_with(typed));
            Answer::Words(fitting.map(|word| (format!("{before}{word}"), String::new())).collect())
        };
        let possible = arg.get_possible_values();
        match arg.get_id().as_str() {
            "hosts" | "exclude" | "explain" | "replace" | "jump" => self.hosts(before, typed),
            "group" => match self.inventory() {
                Some(inventory) => of(inventory.groups().collect()),
                None => of(Vec::new()),
            },
            "host_key" => of(HostKeyPolicy::NAMES.to_vec()),
            "progress" => of(vec!["auto", "always", "never"]),
            _ if !possible.is_empty() => of(possible.iter().map(|value| value.get_name()).collect()),
            // The command is the host's; where it takes files, they are often alike here.
            "command" | "words" | "locals" => Answer::Files(before.to_owned()),
            _ if arg.get_value_hint() == ValueHint::AnyPath => Answer::Files(before.to_owned()),
            _ => Answer::Words(Vec::new()),
        }
    }

    fn inventory(&self) -> Option<Inventory> {
        let mut lookup = Lookup::from_env();
        lookup.deadline = Some(Instant::now() + PATIENCE);
        Inventory::open(self.inventory.as_deref().map(Path::new), &lookup).ok()
    }

    /// Completes the last term of an expression.
    fn hosts(&self, before: &str, typed: &str) -> Answer {
        let start = typed.rfind([',', '!', '&', '^', '(', ' ']).map_or(0, |at| at + 1);
        let (done, term) = typed.split_at(start);
        let before = format!("{before}{done}");
        let inventory = self.inventory();
        let groups: Vec<String> =
            inventory.iter().flat_map(|inventory| inventory.groups().map(|group| format!("@{group}"))).collect();
        if term.starts_with('@') {
            let fitting = groups.into_iter().filter(|group| group.starts_with(term));
            return Answer::Words(fitting.map(|group| (before.clone() + &group, String::new())).collect());
        }
        // A name may stand behind a user, as in `root@web1`.
        let (user, name) = term.split_at(term.find('@').map_or(0, |at| at + 1));
        let config = match self.ssh_config.as_deref() {
            Some(path) if path.eq_ignore_ascii_case("none") => None,
            Some(path) => SshConfig::load(Path::new(path), Local::from_system()).ok(),
            None => SshConfig::load_default(Local::from_system()).ok(),
        };
        let known = inventory.iter().flat_map(Inventory::hosts);
        let mut names: Vec<&str> = known.filter(|host| host.starts_with(name)).collect();
        names.extend(config.iter().flat_map(SshConfig::names).filter(|host| host.starts_with(name)));
        names.sort_by(|a, b| hostset::natural_cmp(a, b));
        names.dedup();
        let before = before + user;
        let mut words: Vec<_> = if names.len() <= MAX_HOSTS {
            names.iter().map(|name| (format!("{before}{name}"), String::new())).collect()
        } else {
            let ways = ways(&names, name.len());
            ways.into_iter().map(|(way, about)| (format!("{before}{way}"), about)).collect()
        };
        let is_partial = names.len() > MAX_HOSTS;
        if term.is_empty() {
            words.extend(groups.into_iter().map(|group| (before.clone() + &group, "group".to_owned())));
        }
        if is_partial { Answer::Partial(words) } else { Answer::Words(words) }
    }
}

/// Returns how names that are alike in so many bytes go on, as far as each way is one.
fn ways(names: &[&str], alike: usize) -> Vec<(String, String)> {
    let mut ways: BTreeMap<Option<char>, (usize, &str)> = BTreeMap::new();
    for name in names {
        let next = name.get(alike..).and_then(|rest| rest.chars().next());
        let (count, way) = ways.entry(next).or_insert((0, name));
        *count += 1;
        let same = way.char_indices().zip(name.chars()).find(|((_, a), b)| a != b);
        let end = same.map_or(way.len().min(name.len()), |((at, _), _)| at);
        *way = way.get(..end).unwrap_or(way);
    }
    let about = |count| if count == 1 { String::new() } else { format!("{count} hosts") };
    ways.into_values().map(|(count, way)| (way.to_owned(), about(count))).collect()
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_positional() && !arg.is_require_equals_set()
}

/// Returns a path as a shell would give it.
fn home(path: &str) -> String {
    match (path.strip_prefix("~/"), dirs::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest).to_string_lossy().into_owned(),
        _ => path.to_owned(),
    }
}

fn about(text: Option<&clap::builder::StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    text.replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<String> {
        let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        match complete(&line) {
            Answer::Words(words) | Answer::Partial(words) => words.into_iter().map(|(word, _)| word).collect(),
            Answer::Files(before) => vec![format!("files{before}")],
        }
    }

    #[test]
    fn verbs_flags_and_their_values() {
        assert_eq!(words(&["sc"]), ["script"]);
        assert_eq!(words(&["help", "pi"]), ["ping"]);
        assert_eq!(words(&["--v"]), ["--version"]);
        assert_eq!(words(&["nonsense", ""]), [""; 0]);
        assert_eq!(words(&["ping", "--max"]), ["--max-fail"]);
        assert_eq!(words(&["ping", "--order", ""]), ["file", "name", "random"]);
        assert_eq!(words(&["ping", "--order=na"]), ["--order=name"]);
        assert_eq!(words(&["ping", "--host-key", "a"]), ["accept-new"]);
        assert_eq!(words(&["ping", "--progress=n"]), ["--progress=never"]);
        assert_eq!(words(&["ping", "-t", "1"]), [""; 0]);
        assert_eq!(words(&["ping", "-i", ""]), ["files"]);
        assert_eq!(words(&["ping", "-vi", ""]), ["files"]);
        assert_eq!(words(&["ping", "--inventory=x"]), ["files--inventory="]);
        assert!(words(&["exec", "-"]).contains(&"-w".to_owned()));
    }

    #[test]
    fn what_belongs_to_the_command_has_no_flags_of_ours() {
        assert_eq!(words(&["exec", "ls", "-"]), ["files"]);
        assert_eq!(words(&["exec", "-f", "3", "--", "-"]), ["files"]);
        assert_eq!(words(&["put", "a", "b", "c"]), ["files"]);
    }

    #[test]
    fn a_line_is_split_as_shells_do() {
        assert_eq!(split("fleet exec -w 'web1, we"), ["exec", "-w", "web1, we"]);
        assert_eq!(split("fleet exec -w \"a b\" c\\ d "), ["exec", "-w", "a b", "c d", ""]);
        assert_eq!(split("fleet "), [""]);
    }

    #[test]
    fn many_names_are_told_by_how_they_go_on() {
        let names = ["web10", "web11", "web2", "db", "db1"];
        let ways = ways(&names, 0);
        assert_eq!(ways, [("db".to_owned(), "2 hosts".to_owned()), ("web".to_owned(), "3 hosts".to_owned())]);
        let names: Vec<&str> = names.into_iter().filter(|name| name.starts_with("web")).collect();
        assert_eq!(
            super::ways(&names, 3),
            [("web1".to_owned(), "2 hosts".to_owned()), ("web2".to_owned(), String::new())]
        );
    }
}
