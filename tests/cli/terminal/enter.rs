//! Enter, pressed while a run goes on.

use super::{Terminal, fleet, tell, until_told};
use crate::ground::Ground;

#[test]
fn enter_says_who_still_runs_and_the_progress_stays_whole() {
    let ground = Ground::named(&["web1", "web2", "db1"]);
    let command = format!("echo begun; {}", until_told(&ground));
    let terminal = Terminal::run(&ground, &["exec", "-f", "2", "--color", "never", &command]);
    terminal.wait_for("web1: begun");
    terminal.wait_for("web2: begun");
    // The output is some time ago: what is on the screen then is the progress's alone.
    terminal.wait_for("  web1  running ");
    terminal.wait_for("fleet: [                    ] 0/3 done, 2 running");
    terminal.press(&["Enter"]);
    terminal.wait_for("fleet: running 2: web[1-2] (longest ");
    terminal.wait_for("fleet: 1 host waits");
    tell(&ground);
    let screen = terminal.finish();
    assert_eq!(screen.last().unwrap(), "exit 0", "{screen:#?}");
    assert!(screen.iter().any(|line| line.starts_with("fleet: 3 hosts: 3 ok in ")), "{screen:#?}");
    assert!(!screen.iter().any(|line| line.contains("] 0/3 done")), "{screen:#?}");
}

#[test]
fn what_is_typed_ahead_is_the_shells() {
    let ground = Ground::named(&["a"]);
    let command = format!("echo begun; {}", until_told(&ground));
    let line = format!("{}; read -r typed; echo then $typed", fleet(&ground, &["exec", &command]));
    let terminal = Terminal::shell(&ground, &line, 100);
    terminal.wait_for("a: begun");
    terminal.press(&["-l", "df -h"]);
    terminal.press(&["Enter"]);
    tell(&ground);
    let screen = terminal.finish();
    assert!(screen.iter().any(|line| line == "then df -h"), "{screen:#?}");
    assert!(!screen.iter().any(|line| line.starts_with("fleet: running")), "{screen:#?}");
}

#[test]
fn a_run_in_the_background_leaves_the_terminal_alone() {
    let ground = Ground::named(&["a"]);
    let command = format!("echo begun; {}", until_told(&ground));
    let run = fleet(&ground, &["exec", "--progress=never", &command]);
    // Only with job control has it the terminal as its standard input there.
    let line = format!("set -m; {run} & read -r typed; echo \"read [$typed]\"; wait");
    let terminal = Terminal::shell(&ground, &line, 100);
    terminal.wait_for("a: begun");
    terminal.press(&["Enter"]);
    terminal.wait_for("read []");
    tell(&ground);
    let screen = terminal.finish();
    assert!(!screen.iter().any(|line| line.starts_with("fleet: running")), "{screen:#?}");
    assert!(screen.iter().any(|line| line.starts_with("fleet: 1 host: 1 ok in ")), "{screen:#?}");
}

#[test]
fn standard_input_that_goes_to_the_hosts_goes_there_whole() {
    let ground = Ground::named(&["a"]);
    let terminal =
        Terminal::run(&ground, &["exec", "--stdin", "-", "--progress=never", "echo begun; cat -A; echo over"]);
    terminal.wait_for("a: begun");
    terminal.press(&["Enter"]);
    terminal.wait_for("a: $");
    terminal.press(&["C-d"]);
    let screen = terminal.finish();
    assert!(screen.iter().any(|line| line == "a: over"), "{screen:#?}");
    assert!(!screen.iter().any(|line| line.starts_with("fleet: running")), "{screen:#?}");
}
