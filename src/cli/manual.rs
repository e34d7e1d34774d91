//! The manual pages, made from the definitions of verbs and flags.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::args::FOOTNOTES;
use super::usage;

/// Of the release: the same program always writes the same pages.
const DATE: &str = "2026-11-21";

const EXIT_STATUS: [(&str, &str); 9] = [
    ("0", "Every host did well."),
    ("1", "A host failed: another status, a signal, or a transfer that it refused."),
    ("2", "The command line, the inventory or the selection is wrong; nothing was contacted."),
    ("3", "A host could not be reached, or its connection was lost."),
    ("4", "The run was stopped by --max-fail, --fail-fast or a wave of --rollout."),
    ("70", "An error of fleet's own: a full disk, a limit of this machine."),
    ("124", "A limit of time passed."),
    ("130", "The run was interrupted; 143 by SIGTERM, 129 by SIGHUP."),
    ("141", "Nobody reads standard output any more."),
];

const FILES: [(&str, &str); 4] = [
    ("./hosts.toml, ~/.config/fleet/hosts.toml", "The inventory, where neither -i nor FLEET_INVENTORY names one."),
    ("~/.ssh/config, /etc/ssh/ssh_config", "Read as ssh(1) reads them, below the inventory; -F names another."),
    ("~/.ssh/known_hosts", "The keys of hosts; --known-hosts names another."),
    ("~/.ssh/id_ed25519, ~/.ssh/id_ecdsa, ~/.ssh/id_rsa", "Private keys, where none is named."),
];

/// A page: its file's name and its text.
pub(crate) struct Page {
    pub(crate) file: String,
    pub(crate) text: Vec<u8>,
}

/// Makes the page of fleet and those of its verbs.
pub(crate) fn pages() -> io::Result<Vec<Page>> {
    let mut cli = usage::command();
    cli.build();
    let verbs: Vec<&Command> = cli.get_subcommands().filter(|verb| !verb.is_hide_set()).collect();
    let names: Vec<String> = verbs.iter().map(|verb| format!("fleet-{}", verb.get_name())).collect();
    let mut pages = vec![Page { file: "fleet.1".to_owned(), text: whole(&cli, &names)? }];
    for (verb, name) in verbs.iter().zip(&names) {
        pages.push(Page { file: format!("{name}.1"), text: of_verb(verb, &names)? });
    }
    Ok(pages)
}

fn whole(cli: &Command, names: &[String]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let man = man(cli);
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    let mut roff = Roff::default();
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(
        "fleet speaks SSH itself, with one thread per host in flight. The hosts need sshd and nothing else. Every host gets \
         exactly one result, with the phase that is to blame when it is not a good one, and the exit code says the worst \
         that happened.",
    )]);
    roff.control("SH", ["VERBS"]);
    for (verb, name) in cli.get_subcommands().filter(|verb| !verb.is_hide_set()).zip(names) {
        roff.control("TP", []);
        roff.text([bold(name.as_str()), roman("(1)")]);
        roff.text([roman(verb.get_about().map(ToString::to_string).unwrap_or_default())]);
    }
    notes(&mut roff, cli);
    roff.to_writer(&mut text)?;
    man.render_options_section(&mut text)?;
    ending(names).to_writer(&mut text)?;
    Ok(text)
}

fn of_verb(verb: &Command, names: &[String]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let man = man(verb);
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_options_section(&mut text)?;
    let mut roff = Roff::default();
    notes(&mut roff, verb);
    roff.to_writer(&mut text)?;
    let others: Vec<String> = std::iter::once("fleet".to_owned()).chain(names.iter().cloned()).collect();
    ending(&others).to_writer(&mut text)?;
    Ok(text)
}

fn man(command: &Command) -> Man {
    let man = Man::new(command.clone()).manual("fleet").date(DATE).source(concat!("fleet ", env!("CARGO_PKG_VERSION")));
    let title = command.get_display_name().unwrap_or_else(|| command.get_name()).to_uppercase();
    man.title(title)
}

/// Writes the examples as they are, and what the help says after them.
fn notes(roff: &mut Roff, command: &Command) {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let help = help.strip_suffix(FOOTNOTES).unwrap_or(&help);
    let mut paragraphs = help.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty());
    if let Some(examples) = paragraphs.next() {
        roff.control("SH", ["EXAMPLES"]);
        roff.control("nf", []);
        for line in examples.lines().skip(1) {
            roff.text([roman(line.trim_start())]);
        }
        roff.control("fi", []);
    }
    let mut paragraphs = paragraphs.peekable();
    if paragraphs.peek().is_some() {
        roff.control("SH", ["NOTES"]);
    }
    for (number, paragraph) in paragraphs.enumerate() {
        if number > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(paragraph.replace('\n', " "))]);
    }
}

fn ending(others: &[String]) -> Roff {
    let mut roff = Roff::default();
    roff.control("SH", ["EXIT STATUS"]);
    table(&mut roff, &EXIT_STATUS);
    roff.control("SH", ["ENVIRONMENT"]);
    roff.control("TP", []);
    roff.text([bold("FLEET_"), roman("NAME")]);
    roff.text([roman(
        "Stands for the flag --name, below the flag itself and above the inventory: FLEET_USER=ops, FLEET_CONNECT_TIMEOUT=5s. \
         Times are 500ms, 10s, 5m, 1h or a number of seconds.",
    )]);
    roff.control("TP", []);
    roff.text([bold("NO_COLOR")]);
    roff.text([roman("Where it is set, nothing is coloured.")]);
    roff.control("SH", ["FILES"]);
    table(&mut roff, &FILES);
    roff.control("SH", ["SEE ALSO"]);
    let mut line = Vec::new();
    for name in others {
        line.extend([bold(name.as_str()), roman("(1), ")]);
    }
    line.extend([bold("ssh_config"), roman("(5)")]);
    roff.text(line);
    roff
}

fn table(roff: &mut Roff, rows: &[(&str, &str)]) {
    for (name, about) in rows {
        roff.control("TP", []);
        roff.text([bold(*name)]);
        roff.text([roman(*about)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_name_every_verb_and_every_flag() {
        let pages = pages().unwrap();
        let text = |file: &str| {
            let page = pages.iter().find(|page| page.file == file).unwrap_or_else(|| panic!("there is no {file}"));
            // As a reader sees it.
            String::from_utf8(page.text.clone()).unwrap().replace("\\-", "-").replace("\\fR", "").replace("\\fB", "")
        };
        let mut cli = usage::command();
        cli.build();
        for verb in cli.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            assert!(text("fleet.1").contains(&format!("fleet-{}(1)", verb.get_name())));
            let page = text(&format!("fleet-{}.1", verb.get_name()));
            for arg in verb.get_arguments().filter(|arg| !arg.is_hide_set() && !arg.is_positional()) {
                let long = format!("--{}", arg.get_long().unwrap());
                let named = match arg.get_short() {
                    Some(short) => format!("-{short}, {long}"),
                    None => format!("\n{long}"),
                };
                assert!(page.contains(&named), "fleet-{}.1 has no {named}:\n{page}", verb.get_name());
                let help = arg.get_help().unwrap().to_string();
                let start = help.split(['\'', '"', '`', '[']).next().unwrap().trim();
                assert!(page.contains(start), "fleet-{}.1 does not say: {start}\n{page}", verb.get_name());
            }
            for section in ["EXAMPLES", "EXIT STATUS", "SEE ALSO"] {
                assert!(page.contains(section), "fleet-{}.1 has no {section}", verb.get_name());
            }
        }
    }
}
