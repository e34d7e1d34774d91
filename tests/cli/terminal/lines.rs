//! Lines, names, colours and the progress line.

use fleet_sim::{Fault, HostPlan};

use super::{Terminal, fleet, tell, until_told};
use crate::ground::Ground;

/// What takes the progress line away.
const CLEAR_LINE: &str = "\r\x1b[K";

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
    let record = terminal.finish_recorded();
    let mut counts = [0; 4];
    let mut bars = 0;
    for line in record.split("\r\n") {
        // What a cleared line held is not seen any more.
        let (cleared, kept) = line.rsplit_once(CLEAR_LINE).unwrap_or(("", line));
        bars += cleared.matches("fleet: [").count();
        if let Some((host, rest)) = kept.split_once(": line ") {
            let host = ["a", "b", "c", "d"].iter().position(|name| *name == host);
            counts[host.unwrap_or_else(|| panic!("torn: {line:?}"))] += 1;
            assert!(rest.parse::<u32>().is_ok(), "torn: {line:?}");
        } else {
            assert!(kept.is_empty() || kept.starts_with("fleet: 4 hosts: 4 ok in ") || kept == "exit 0", "{line:?}");
        }
    }
    assert_eq!(counts, [200; 4]);
    assert!(bars > 0, "the progress line never showed");
}

#[test]
fn the_progress_line_fits_a_narrow_terminal() {
    let ground = Ground::named(&["a", "b"]);
    let command = format!("echo begun; {}", until_told(&ground));
    let terminal = Terminal::shell(&ground, &fleet(&ground, &["exec", &command]), 40);
    terminal.wait_for("fleet: [");
    let screen = terminal.screen();
    // One line of it, whatever it says.
    assert_eq!(screen.iter().filter(|line| !line.ends_with(": begun")).count(), 1, "{screen:?}");
    tell(&ground);
    let screen = terminal.finish();
    assert!(!screen.iter().any(|line| line.contains('[')), "{screen:?}");
}

#[test]
fn nothing_moves_where_nobody_looks() {
    let ground = Ground::named(&["a"]);
    let command = "echo begun; sleep 0.5; echo 'done'";
    let quiet = Terminal::run(&ground, &["exec", "-q", command]).finish_recorded();
    assert_eq!(quiet, "a: begun\r\na: done\r\nexit 0\r\n".replace("a:", "\x1b[36ma:\x1b[0m"));
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
fn a_transfer_shows_bytes() {
    let ground = Ground::start(vec![HostPlan::new().fault(Fault::StallSftp { after_requests: 3 })]);
    std::fs::write(ground.fleet.dir().join("big"), vec![0; 3_000_000]).unwrap();
    let terminal = Terminal::run(&ground, &["put", "big", "there"]);
    terminal.wait_for("fleet: [                    ] 0/1 done, 1 running, 0 B, ");
    terminal.press(&["C-c"]);
    let screen = terminal.finish();
    assert_eq!(screen.last().unwrap(), "exit 130", "{screen:?}");
}

#[test]
fn an_unfinished_line_is_ended_before_fleet_speaks() {
    let ground = Ground::named(&["a"]);
    let screen = Terminal::run(&ground, &["exec", "-N", "printf 'no end'"]).finish();
    assert_eq!(screen[0], "no end");
    assert!(screen[1].starts_with("fleet: 1 host: 1 ok in "), "{screen:?}");
}
