//! Lines, names, colours and the progress line.

use super::{Terminal, fleet, tell, until_told};
use crate::ground::Ground;

#[test]
fn names_are_padded_alike() {
    let ground = Ground::named(&["a", "web01", "zürich"]);
    let screen = Terminal::run(&ground, &["exec", "-f", "1", "echo out; sleep 0.1; echo err >&2"]).finish();
    assert_eq!(
        screen[..6],
        ["a:      out", "a:      err", "web01:  out", "web01:  err", "zürich: out", "zürich: err"],
        "{screen:?}"
    );
}

#[test]
fn no_line_is_torn_by_the_progress_line() {
    let ground = Ground::named(&["a", "b", "c", "d"]);
    let wait = until_told(&ground);
    let command = format!("{wait}; for n in $(seq 200); do echo line $n; sleep 0.005; done");
    let terminal = Terminal::run(&ground, &["exec", "--color", "never", &command]);
    terminal.wait_for("fleet: [                    ] 0/4 done, 4 running");
    tell(&ground);
    terminal.tmux(&["wait-for", "done"]);
    let mut counts = [0; 4];
    let mut lines = terminal.history();
    assert_eq!(lines.pop().unwrap(), "exit 0");
    assert!(lines.pop().unwrap().starts_with("fleet: 4 hosts: 4 ok in "));
    for line in &lines {
        let (host, rest) = line.split_once(": line ").unwrap_or_else(|| panic!("torn: {line:?}"));
        let host = ["a", "b", "c", "d"].iter().position(|name| *name == host);
        counts[host.unwrap_or_else(|| panic!("torn: {line:?}"))] += 1;
        assert!(rest.parse::<u32>().is_ok(), "torn: {line:?}");
    }
    assert_eq!(counts, [200; 4]);
}

#[test]
fn nothing_moves_where_nobody_looks() {
    let ground = Ground::named(&["a"]);
    let command = "echo begun; sleep 0.5; echo 'done'";
    let quiet = Terminal::run(&ground, &["exec", "-q", command]).finish_recorded();
    assert_eq!(quiet, "a: begun\r\na: done\r\nexit 0\r\n".replace("a:", "\x1b[34ma:\x1b[0m"));
    let redirected = format!("{} 2>errors", fleet(&ground, &["exec", "--color", "never", command]));
    let redirected = Terminal::shell(&ground, &redirected, 100).finish_recorded();
    assert_eq!(redirected, "a: begun\r\na: done\r\nexit 0\r\n");
    let errors = std::fs::read_to_string(ground.fleet.dir().join("errors")).unwrap();
    assert!(errors.starts_with("fleet: 1 host: 1 ok in ") && errors.lines().count() == 1, "{errors}");
}

#[test]
fn a_piped_output_leaves_the_progress_line_to_the_terminal() {
    let ground = Ground::named(&["a"]);
    let command = format!("printf '\\033[1mbegun\\n'; {}", until_told(&ground));
    let line = format!("{} | cat > piped", fleet(&ground, &["exec", &command]));
    let terminal = Terminal::shell(&ground, &line, 100);
    terminal.wait_for("fleet: [                    ] 0/1 done, 1 running");
    tell(&ground);
    let screen = terminal.finish();
    assert!(screen[0].starts_with("fleet: 1 host: 1 ok in "), "{screen:?}");
    // Escaped on a terminal only, and uncoloured.
    assert_eq!(std::fs::read(ground.fleet.dir().join("piped")).unwrap(), b"a: \x1b[1mbegun\n");
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let ground = Ground::named(&["a"]);
    let line = fleet(&ground, &["exec", "echo x >&2; exit 1"]);
    let colours = |line: &str| Terminal::shell(&ground, line, 100).finish_recorded().contains("\x1b[3");
    assert!(colours(&line));
    assert!(!colours(&format!("NO_COLOR=1 {line}")));
    assert!(colours(&format!("NO_COLOR= {line}")));
    assert!(!colours(&format!("TERM=dumb {line}")));
    assert!(!colours(&format!("FLEET_COLOR=never {line}")));
    assert!(colours(&format!("NO_COLOR=1 FLEET_COLOR=always {line}")));
}

#[test]
fn an_unfinished_line_is_ended_before_fleet_speaks() {
    let ground = Ground::named(&["a"]);
    let screen = Terminal::run(&ground, &["exec", "-N", "printf 'no end'"]).finish();
    assert_eq!(screen[0], "no end");
    assert!(screen[1].starts_with("fleet: 1 host: 1 ok in "), "{screen:?}");
}
