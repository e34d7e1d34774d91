//! What people type who come from other tools, and what it is called here.

use std::path::Path;

use clap::Command;

/// Flags of pssh, clush, pdsh, Ansible, ssh and bssh that fleet calls otherwise: the long flag that a verb must have for the
/// answer to be right, nothing for every verb, and the answer.
const FLAGS: &[(&[&str], &str, &str)] = &[
    (
        &["--par", "--parallel", "--concurrency", "--max-parallel", "--workers", "--threads", "-P", "-j", "-n"],
        "fanout",
        "-f N is how many hosts are done at once",
    ),
    (&["--limit", "--host", "--nodes", "--targets", "-L"], "hosts", "-w EXPR selects hosts: -w web01,web02"),
    (&["--hostfile", "--hosts-file", "--host-file", "--machinefile"], "inventory", "-i PATH names the inventory"),
    (
        &["--list-hosts", "--list", "-Q"],
        "",
        "fleet hosts lists whom a selection means; --dry-run shows what would be done",
    ),
    (&["--exclude-group"], "exclude", "-x @GROUP leaves a group out"),
    (&["--username", "--remote-user", "--login"], "user", "-l NAME is the login name"),
    (
        &["--private-key", "--key-file", "--ssh-key", "--keyfile", "--identity-file"],
        "identity",
        "-I PATH is the private key",
    ),
    (
        &[
            "--password",
            "--pass",
            "--passwd",
            "--askpass",
            "-k",
            "--prompt-for-login-password",
            "--ssh-password-prompt",
            "--password-prompt",
        ],
        "ask-pass",
        "-A asks for the login password; --password-from env:NAME, file:PATH or cmd:COMMAND has it from there",
    ),
    (
        &[
            "--ssh-common-args",
            "--ssh-extra-args",
            "--ssh-args",
            "--options",
            "--option",
            "--extra-arg",
            "--extra-args",
        ],
        "ssh-config",
        "fleet needs no ssh: put its options into an ssh_config, and name that with -F PATH",
    ),
    (
        &["-o"],
        "out-dir",
        "options of ssh go into an ssh_config, which -F PATH names; -O DIR keeps a file for each host",
    ),
    (&["-o"], "ssh-config", "options of ssh go into an ssh_config, which -F PATH names"),
    (&["-X"], "exclude", "-x @GROUP leaves a group out; options of ssh go into an ssh_config, which -F PATH names"),
    (&["--outdir", "--errdir", "--output-dir"], "out-dir", "-O DIR keeps a file for each host"),
    (&["-R", "--rcmd", "--connection"], "", "fleet speaks SSH itself: there is nothing to choose"),
    (&["-B", "--dshbak", "--gather", "--group-output"], "fold", "-b shows hosts that wrote the same once"),
    (&["--become-method"], "become", "--become sudo is the one way; --sudo is short for it"),
    (&["--bastion", "--jump-host", "--proxy", "--gateway", "--proxyjump"], "jump", "-J HOST goes through a bastion"),
    (
        &["--insecure", "--no-host-key-check", "--accept-new", "--strict-host-key-checking"],
        "host-key",
        "--host-key accept-new, strict or off says which host keys are taken",
    ),
    (&["--connect_timeout", "--conn-timeout", "-T"], "connect-timeout", "-t TIME is the time until logged in"),
    (
        &["--command_timeout", "--command-timeout", "--task-timeout", "--exec-timeout"],
        "timeout",
        "-u TIME is the time that each host has from its login on",
    ),
    (&["--check", "--noop", "--simulate", "-C"], "dry-run", "--dry-run shows what would be done, and contacts nothing"),
    (
        &["--any-errors-fatal", "--stop-on-error", "--exit-on-error"],
        "fail-fast",
        "--fail-fast starts no more once a host failed",
    ),
    (
        &["--max-fail-percentage", "--max-failures", "--max-errors"],
        "max-fail",
        "--max-fail 10% is how many hosts may fail",
    ),
    (&["--serial", "--batch", "--batch-size", "--canary"], "rollout", "--rollout 1,10% goes in waves"),
    (
        &["--forever", "--retry"],
        "retries",
        "--retries N is for drops before the login, --retry-op N for what then breaks",
    ),
    (
        &["--inline", "--print", "--inline-stdout", "--one-line", "--nostdin"],
        "format",
        "that is what fleet does without a flag",
    ),
    (&["--json"], "format", "--format json is one object a line"),
    (&["--jsonl"], "format", "--format jsonl is one result a line"),
    (&["--csv"], "format", "--format csv is one result a row"),
    (&["--silent"], "quiet", "-q says nothing but errors"),
    (&["--debug", "-d"], "verbose", "-vv shows each phase of each host"),
    (&["--no-color", "--nocolor", "--no-colour", "--colour"], "color", "--color never, always or auto"),
    (&["--no-progress"], "progress", "--progress=never shows none"),
    (
        &["--send-input", "--input", "--pass-stdin"],
        "stdin",
        "--stdin PATH is the command's standard input, --stdin - fleet's own",
    ),
    (
        &["--extra-vars", "-e", "--setenv", "--environment"],
        "env",
        "--env NAME=VALUE sets a variable; --template fills {{vars.NAME}} in from the inventory",
    ),
    (&["--chdir", "--workdir", "--directory"], "cwd", "--cwd DIR is where the command runs"),
    (&["--tty", "--terminal"], "pty", "--pty runs the command on a terminal"),
    (
        &["--module-name", "--module", "--module-path", "-m", "-M"],
        "",
        "there are no modules: fleet exec runs a command, fleet script a script",
    ),
    (&["--copy", "-c"], "", "fleet put LOCAL… REMOTE copies to the hosts"),
    (&["--rcopy"], "", "fleet get REMOTE LOCAL_DIR copies from the hosts"),
    (&["--maxrc", "-S"], "", "the exit code tells the worst of all hosts without a flag: fleet --help"),
];

/// Verbs of other tools.
const VERBS: &[(&str, &str)] = &[
    ("run", "exec"),
    ("cmd", "exec"),
    ("command", "exec"),
    ("execute", "exec"),
    ("copy", "put"),
    ("push", "put"),
    ("upload", "put"),
    ("scp", "put"),
    ("rsync", "put"),
    ("send", "put"),
    ("fetch", "get"),
    ("pull", "get"),
    ("download", "get"),
    ("list", "hosts"),
    ("list-hosts", "hosts"),
    ("inventory", "hosts"),
    ("nodes", "hosts"),
    ("check", "ping"),
    ("keyscan", "trust"),
    ("ssh-keyscan", "trust"),
    ("ssh-copy-id", "copy-id"),
    ("version", "--version"),
];

/// Says how fleet's `verb` calls what another tool's flag does.
pub(super) fn flag(flag: &str, verb: &Command) -> Option<&'static str> {
    FLAGS.iter().find(|(flags, ours, _)| flags.contains(&flag) && has(verb, ours)).map(|(_, _, hint)| *hint)
}

fn has(verb: &Command, long: &str) -> bool {
    long.is_empty() || verb.get_arguments().any(|arg| arg.get_long() == Some(long) && !arg.is_hide_set())
}

/// Returns fleet's verb for that of another tool.
pub(super) fn verb(word: &str) -> Option<&'static str> {
    VERBS.iter().find(|(theirs, _)| *theirs == word).map(|(_, ours)| *ours)
}

/// Says what a value of a flag of fleet's was meant for with another tool.
pub(super) fn value(flag: &str, value: &str) -> Option<&'static str> {
    match flag {
        "--timeout" if value.starts_with(char::is_alphabetic) => Some("-u is a time limit; -l NAME is the login name"),
        "--become" => Some("--sudo runs it as root, --become-user NAME as somebody else"),
        _ => None,
    }
}

/// Says how a selection is written that another tool reads, and fleet does not.
pub(super) fn selection(text: &str) -> Option<&'static str> {
    let begins = |start: &str| text.split(',').any(|term| term.trim_start().starts_with(start));
    let is_file = || text.strip_prefix('@').is_some_and(|name| Path::new(name).is_file());
    match () {
        () if begins("^") || is_file() => Some("@file:PATH stands for the hosts of a file"),
        () if begins("/") || begins("-/") => Some("~/REGEX/ is a regular expression, a!~/REGEX/ leaves out what fits"),
        () if begins("-") && text.trim() != "-" => Some("a!b leaves b out, and so does -x b"),
        () if text.trim().contains(' ') => Some("commas stand between names: a,b"),
        () => None,
    }
}

/// Reads a line that begins with hosts, as Ansible's and ssh's do: the verb, and what stands behind it.
pub(super) fn hosts_first(word: &str, rest: &[String]) -> Option<(&'static str, Vec<String>)> {
    let select = |hosts: &str| match hosts {
        "all" => vec!["-a".to_owned()],
        hosts => vec!["-w".to_owned(), hosts.to_owned()],
    };
    if word == "ssh" {
        let (hosts, command) = rest.split_first().filter(|(hosts, _)| !hosts.starts_with('-'))?;
        return Some(("exec", [select(hosts), command.to_vec()].concat()));
    }
    let behind = |flags: [&str; 2]| {
        let at = rest.iter().position(|word| flags.contains(&word.as_str()))?;
        rest.get(at + 1).cloned()
    };
    let (module, command) = (behind(["-m", "--module-name"]), behind(["-a", "--args"]));
    let is_hosts = word == "all" || (word.len() > 1 && word.contains([',', '@', '[', '*']) && !word.contains('/'));
    match (module.as_deref(), command) {
        (Some("ping"), None) => Some(("ping", select(word))),
        (Some("shell" | "command" | "raw"), Some(command)) => Some(("exec", [select(word), vec![command]].concat())),
        (None, Some(command)) if is_hosts => Some(("exec", [select(word), vec![command]].concat())),
        (None, None) if is_hosts && !rest.is_empty() => Some(("exec", [select(word), rest.to_vec()].concat())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::usage::command;
    use super::*;

    #[test]
    fn what_is_named_is_there_and_what_is_translated_is_not() {
        let cli = command();
        let verbs: Vec<&Command> = cli.get_subcommands().collect();
        for (flags, ours, hint) in FLAGS {
            assert!(verbs.iter().any(|verb| has(verb, ours)), "no verb has --{ours}");
            for flag in *flags {
                let is_flag = |arg: &clap::Arg| {
                    arg.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long))
                        || arg.get_short().is_some_and(|short| **flag == *format!("-{short}"))
                };
                let exec = cli.find_subcommand("exec").unwrap();
                assert!(!exec.get_arguments().any(is_flag), "exec has {flag} itself");
            }
            for word in hint.split_whitespace().filter(|word| word.starts_with('-') && word.len() > 1) {
                let word = word.trim_end_matches([',', ';', ':']).split('=').next().unwrap();
                let is_known = cli.get_subcommands().any(|verb| {
                    verb.get_arguments().any(|arg| {
                        arg.get_long().is_some_and(|long| word == format!("--{long}"))
                            || arg.get_short().is_some_and(|short| word.starts_with(&format!("-{short}")))
                    })
                });
                assert!(is_known, "{hint}: there is no {word}");
            }
        }
        for (theirs, ours) in VERBS {
            assert!(cli.find_subcommand(theirs).is_none(), "{theirs} is a verb");
            assert!(ours.starts_with('-') || cli.find_subcommand(ours).is_some(), "{ours}");
        }
    }
}
