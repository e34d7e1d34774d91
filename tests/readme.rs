//! The README and the quickstart against the code: what they say is so.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use fleet::event::StopReason;
use fleet::{Class, Inventory, Summary};

const README: &str = include_str!("../README.md");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const VERBS: [&str; 8] = ["exec", "script", "put", "get", "ping", "copy-id", "hosts", "trust"];

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn fleet(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleet"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

/// Returns the lines between fences of this kind, one text per block.
fn blocks(kind: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = README.lines();
    while let Some(line) = lines.next() {
        if let Some(found) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if found == kind {
                blocks.push(block.join("\n") + "\n");
            }
        }
    }
    blocks
}

/// Returns what stands between backquotes outside of blocks.
fn spans() -> Vec<&'static str> {
    let prose = README.split("```").step_by(2);
    prose.flat_map(|text| text.split('`').skip(1).step_by(2)).collect()
}

mod golden {
    use super::*;

    /// A run that ends with this code, and nothing worse.
    fn with_code(code: u8, summary: &mut Summary) {
        match code {
            130 => summary.stopped_by = Some(StopReason::Interrupt),
            70 => summary.count(Class::Error),
            124 => summary.count(Class::TimedOut),
            4 => summary.stopped_by = Some(StopReason::Threshold),
            3 => summary.count(Class::Unreachable),
            1 => summary.count(Class::Failed),
            0 => summary.count(Class::Ok),
            other => unreachable!("no run ends with {other}"),
        }
    }

    #[test]
    fn the_table_of_results_is_the_codes() {
        let table = README.split("| status | when | exit code |").nth(1).unwrap();
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let said: Vec<(String, u8)> = rows
            .map(|row| {
                let cells: Vec<&str> = row.split('|').map(str::trim).collect();
                (cells[1].trim_matches('`').to_owned(), cells[3].parse().unwrap())
            })
            .collect();
        let meant = Class::ALL.map(|class| {
            let mut summary = Summary::default();
            summary.count(class);
            if matches!(class, Class::Cancelled | Class::NotStarted) {
                summary.stopped_by = Some(StopReason::Interrupt);
            }
            (class.as_str().to_owned(), summary.exit_code())
        });
        assert_eq!(said, meant);
    }

    #[test]
    fn the_order_of_exit_codes_is_the_codes() {
        let order = README.split("in the order ").nth(1).unwrap().split(". ").next().unwrap();
        let codes: Vec<u8> = order.split(", ").map(|code| code.parse().unwrap()).collect();
        assert_eq!(codes.len(), 7);
        for pair in codes.windows(2) {
            let mut both = Summary::default();
            // Of two reasons to stop a run has one.
            with_code(pair[1], &mut both);
            with_code(pair[0], &mut both);
            assert_eq!(both.exit_code(), pair[0], "{pair:?}");
        }
    }

    #[test]
    fn every_flag_and_variable_is_one() {
        let help: Vec<String> = VERBS.iter().map(|verb| stdout(&fleet(&[verb, "--help"]).output().unwrap())).collect();
        let words = |text: &str| -> Vec<String> {
            let is_part = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
            text.split(|c| !is_part(c)).map(str::to_owned).collect()
        };
        let known: Vec<String> = help.iter().flat_map(|text| words(text)).collect();

        let flags = spans().into_iter().filter(|span| span.starts_with('-'));
        let flags: Vec<&str> = flags.map(|span| span.split([' ', '=']).next().unwrap()).collect();
        assert!(flags.len() > 10, "{flags:?}");
        // What a program that is an inventory is asked for.
        let others = ["--list", "--host"];
        for flag in flags.into_iter().filter(|flag| !others.contains(flag)) {
            assert!(known.iter().any(|word| word == flag), "no verb has {flag}");
        }

        // What is read without a flag: the selection, the spill file. What commands find: their place in the run.
        let others =
            ["FLEET_HOSTS", "FLEET_GROUP", "FLEET_TMPDIR", "FLEET_", "FLEET_HOST", "FLEET_INDEX", "FLEET_TOTAL"];
        let variables = words(README).into_iter().filter(|word| word.starts_with("FLEET_"));
        for variable in variables.filter(|word| !others.contains(&word.as_str())) {
            let flag = variable.trim_start_matches("FLEET").replace('_', "-").to_lowercase();
            assert!(known.contains(&format!("-{flag}")), "no flag for {variable}");
        }
    }

    #[test]
    fn every_command_is_understood_and_fleet_hosts_says_what_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(Path::new(ROOT).join("docker/hosts.toml"), dir.path().join("hosts.toml")).unwrap();
        std::fs::write(dir.path().join("nginx.conf"), "").unwrap();
        std::fs::write(dir.path().join("facts.sh"), "#!/bin/bash -e\n").unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        std::fs::write(dir.path().join("run/id_rsa"), "").unwrap();
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHGqM1Fg4Wk0Jj5Tj3vPjTgJq7G6S1nB5WqkUT3c0bnQ";
        std::fs::write(dir.path().join("run/id_ed25519.pub"), key).unwrap();
        let bin = Path::new(env!("CARGO_BIN_EXE_fleet")).parent().unwrap();
        let run = |line: &str| {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", line]).current_dir(dir.path()).stdin(Stdio::null());
            shell.env_clear().env("PATH", bin).env("HOME", dir.path()).env("FLEET_DRY_RUN", "1");
            shell.output().unwrap()
        };

        let shown = blocks("console").concat();
        let mut verbs = Vec::new();
        for (number, line) in shown.lines().enumerate() {
            let Some(command) = line.strip_prefix("$ ").filter(|command| command.starts_with("fleet ")) else {
                continue;
            };
            let output = run(command);
            assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
            let verb = command.split(' ').nth(1).unwrap();
            if verb == "hosts" {
                let said: Vec<&str> =
                    shown.lines().skip(number + 1).take_while(|line| !line.starts_with('$')).collect();
                assert_eq!(stdout(&output).lines().collect::<Vec<_>>(), said);
            }
            verbs.push(verb.to_owned());
        }
        for verb in VERBS {
            assert!(verbs.iter().any(|shown| shown == verb), "{verb} is not shown");
        }

        // Those in the text run on hosts that are not there: only their flags are looked at.
        for command in spans().into_iter().filter(|span| span.starts_with("fleet ") && !span.contains(['…', 'V'])) {
            let output = run(command);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!said.contains("unexpected argument") && !said.contains("no verb"), "{command}: {said}");
        }
    }

    #[test]
    fn its_inventory_is_one() {
        let [text] = blocks("toml").try_into().unwrap();
        let inventory = Inventory::parse(&text, Path::new("README.md")).unwrap();
        assert_eq!(inventory.members("prod").unwrap().len(), 21);
    }

    #[test]
    fn its_links_lead_somewhere() {
        for target in README.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if let Some(title) = target.strip_prefix('#') {
                let is_there =
                    |line: &str| line.trim_start_matches(['#', ' ']).to_lowercase().replace(' ', "-") == title;
                assert!(README.lines().any(|line| line.starts_with('#') && is_there(line)), "no heading {target}");
            } else {
                assert!(Path::new(ROOT).join(target).exists(), "no file {target}");
            }
        }
    }
}

mod simulator {
    use super::*;

    #[test]
    fn quickstart_shows_df_put_and_get() {
        let elsewhere = tempfile::tempdir().unwrap();
        let mut quickstart = Command::new(Path::new(ROOT).join("quickstart"));
        // What cargo says to this test would make its own build scripts run again.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.starts_with(start)) {
                quickstart.env_remove(&*name);
            }
        }
        let output = quickstart
            .env("FLEET_PROFILE", "dev")
            .env("FLEET_HOSTS", "of-somebody-else")
            .env("TMPDIR", elsewhere.path())
            .current_dir(elsewhere.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = stdout(&output);
        for command in [
            "$ fleet hosts -i hosts.toml -v",
            "$ fleet exec -i hosts.toml df -h /",
            "$ fleet put -i hosts.toml hello.txt greeting.txt",
            "$ fleet get -i hosts.toml greeting.txt fetched",
        ] {
            assert!(text.lines().any(|line| line == command), "{command} is not shown:\n{text}");
        }
        for host in ["sim0001", "sim0002", "sim0003"] {
            let has = |start: &str, end: &str| text.lines().any(|line| line.starts_with(start) && line.ends_with(end));
            assert!(has(&format!("{host}: Filesystem"), "Mounted on"), "no table of {host}:\n{text}");
            assert!(has(&format!("{host}: "), " /"), "no file system of {host}:\n{text}");
            assert!(has(&format!("{host}: hello from fleet"), ""), "nothing was put to {host}:\n{text}");
            assert!(has(&format!("fetched/{host}/greeting.txt"), ""), "nothing was fetched from {host}:\n{text}");
        }
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert_eq!(complaints.matches("fleet: 3 hosts: 3 ok in ").count(), 4, "{complaints}");
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0, "something is left behind");
    }
}
