//! Ctrl-C.

use std::time::{Duration, Instant};

use super::Terminal;
use crate::ground::Ground;

#[test]
fn with_nothing_queued_one_press_ends_what_runs() {
    let ground = Ground::named(&["a", "b"]);
    let terminal = Terminal::run(&ground, &["exec", "--color", "never", "echo begun; sleep 1000"]);
    terminal.wait_for("a: begun");
    terminal.wait_for("b: begun");
    terminal.press(&["C-c"]);
    let screen = terminal.finish();
    let told = |what: &str| screen.iter().any(|line| line.starts_with(what));
    assert!(told("fleet: stopping: ending 2 hosts: a,b; press again to leave at once"), "{screen:#?}");
    assert!(told("fleet: a: cancelled: stopped, remote process killed"), "{screen:#?}");
    assert!(told("fleet: 2 hosts: 0 ok, 2 cancelled in "), "{screen:#?}");
    assert_eq!(screen.last().unwrap(), "exit 130");
    assert!(!screen.iter().any(|line| line.contains("fleet: [")), "{screen:#?}");
    ground.assert_no_processes();
}

#[test]
fn the_third_press_leaves_and_takes_the_progress_line_away() {
    let ground = Ground::named(&["a", "b"]);
    let command = "trap '' TERM; echo begun; while :; do sleep 0.1; done";
    let terminal = Terminal::run(&ground, &["exec", "-f", "1", command]);
    terminal.wait_for("a: begun");
    for what in ["fleet: stopping: no new hosts; 1 still running: a;", "fleet: stopping: ending 1 host: a;"] {
        terminal.press(&["C-c"]);
        terminal.wait_for(what);
    }
    let pressed = Instant::now();
    terminal.press(&["C-c"]);
    let screen = terminal.finish();
    assert_eq!(screen.last().unwrap(), "exit 130", "{screen:#?}");
    assert!(!screen.iter().any(|line| line.contains("fleet: [")), "{screen:#?}");
    // Not the end of the grace that the remote process was given.
    assert!(pressed.elapsed() < Duration::from_secs(4), "{screen:#?}");
}
