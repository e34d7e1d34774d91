//! `-b` on a terminal: the groups so far, until the blocks take their place.

use super::{Terminal, fleet, tell, until_told};
use crate::ground::Ground;

const RULE: &str = "---------------";

fn is_foot(line: &str) -> bool {
    line.starts_with("  ") || line.starts_with("fleet: [")
}

/// Asserts that nothing of what stood below is left, not even where it scrolled to.
fn assert_gone(terminal: &Terminal) {
    let lines = terminal.history();
    assert!(!lines.iter().any(|line| is_foot(line)), "{}", lines.join("\n"));
}

/// Tells whether the foot stands there as a whole: a terminal may be looked at while it reads.
fn is_drawn(screen: &[String]) -> bool {
    screen.last().is_some_and(|line| line.starts_with("fleet: ["))
}

/// Waits until these rows stand there, above the progress.
fn wait_for_rows(terminal: &Terminal, rows: &[&str]) {
    terminal.wait_until(&format!("{rows:#?}"), |screen| {
        is_drawn(screen) && screen.windows(rows.len()).any(|lines| lines == rows)
    });
}

fn wait_for_end(terminal: &Terminal) -> Vec<String> {
    terminal.tmux(&["wait-for", "done"]);
    assert_gone(terminal);
    terminal.screen()
}

#[test]
fn groups_grow_in_place_and_their_blocks_come_once() {
    let ground = Ground::named(&["web1", "web2", "web3", "web4"]);
    let odd = "echo inactive; exit 3";
    let command = format!("case $HOME in *web3) {odd};; *web4) {};; esac; echo ok", until_told(&ground));
    let terminal = Terminal::run(&ground, &["exec", "-b", "--color", "never", &command]);
    let odd = r#"  1/4  web3      exit status 3: "inactive""#;
    wait_for_rows(&terminal, &[r#"  2/4  web[1-2]  "ok""#, odd, "  1/4  web4      running"]);
    tell(&ground);
    let screen = wait_for_end(&terminal);
    let blocks = [RULE, "web[1-2,4] (3)", RULE, "ok", RULE, "web3 (1): exit status 3", RULE, "inactive"];
    assert_eq!(screen[..8], blocks, "{screen:#?}");
    assert!(screen[8].starts_with("fleet: 4 hosts: 3 ok, 1 failed in "), "{screen:#?}");
    assert_eq!(screen[9..], ["fleet: failed 1: exit status 3: web3", "exit 1"], "{screen:#?}");
}

#[test]
fn many_groups_have_no_more_than_their_part_of_the_screen() {
    let names: Vec<String> = (0..12).map(|number| format!("host-with-a-long-name-{number:02}")).collect();
    let ground = Ground::named(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let command = format!(
        "case $HOME in *-11) {};; *0[0-3]) echo usual;; *) echo what this one wrote is $HOME;; esac",
        until_told(&ground)
    );
    let args = ["exec", "-b", "--color", "never", &command];
    let terminal = Terminal::sized(&ground, &fleet(&ground, &args), 60, 20);
    let odd = r#"   1/12  host-with-a-long-name-…  "what this one wrote i…"#;
    let rows = [
        r#"   4/12  host-with-a-long-name-…  "usual""#,
        odd,
        odd,
        "  and 5 more groups of 5 hosts",
        "   1/12  host-with-a-long-name-…  running",
    ];
    wait_for_rows(&terminal, &rows);

    terminal.resize(100, 60);
    let of_hosts = |screen: &[String]| screen.iter().filter(|line| line.contains("/12  host-")).count();
    let screen = terminal.wait_until("all groups", |screen| is_drawn(screen) && of_hosts(screen) == 9);
    assert_eq!(screen[0], r#"   4/12  host-with-a-long-name-[00-03]  "usual""#, "{screen:#?}");
    let odd = r#"   1/12  host-with-a-long-name-10       "what this one wrote is "#;
    assert!(screen[7].starts_with(odd), "{screen:#?}");
    assert_eq!(screen[8], "   1/12  host-with-a-long-name-11       running", "{screen:#?}");

    // With the host that takes longest a third of the rows, and the whole.
    terminal.resize(100, 24);
    let is_less = |screen: &[String]| is_drawn(screen) && of_hosts(screen) == 5 && screen.len() == 8;
    let screen = terminal.wait_until("less", is_less);
    assert_eq!(screen[4], "  and 4 more groups of 4 hosts", "{screen:#?}");
    tell(&ground);
    assert_eq!(wait_for_end(&terminal).last().unwrap(), "exit 0");
    // More than the screen holds.
    let lines = terminal.history();
    assert_eq!(lines.iter().filter(|line| line.as_str() == "usual").count(), 1, "{lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("what this one wrote")).count(), 7, "{lines:#?}");
}

#[test]
fn control_c_leaves_the_blocks_of_what_there_is() {
    let ground = Ground::named(&["a", "b", "c"]);
    let command = r"printf 'b\033[2Jegun\n'; case $HOME in *c) sleep 1000;; esac";
    let terminal = Terminal::run(&ground, &["exec", "--diff", "--color", "never", command]);
    // Nothing on a host steers the terminal.
    wait_for_rows(&terminal, &[r#"  2/3  a,b  "b\x1b[2Jegun""#, "  1/3  c    running"]);
    // What the terminal has not read when Ctrl-C is pressed is lost: nothing else is about to change.
    terminal.wait_for("  c  running ");
    terminal.press(&["C-c"]);
    let screen = wait_for_end(&terminal);
    let blocks: Vec<&str> = screen
        .iter()
        .map(String::as_str)
        .skip_while(|line| *line != RULE)
        .take_while(|line| !line.starts_with("fleet: "))
        .collect();
    let cancelled = "c (1): cancelled: stopped, remote process killed, the same output";
    assert_eq!(blocks, [RULE, "a,b (2)", RULE, r"b\x1b[2Jegun", RULE, cancelled, RULE], "{screen:#?}");
    assert_eq!(screen.last().unwrap(), "exit 130");
    ground.assert_no_processes();
}

#[test]
fn a_wave_that_has_its_blocks_has_no_rows() {
    let ground = Ground::named(&["a", "b", "c"]);
    let command = format!("case $HOME in *c) {};; esac; echo ok", until_told(&ground));
    let args = ["exec", "-b", "--color", "never", "--rollout", "1,3", &command];
    let terminal = Terminal::run(&ground, &args);
    wait_for_rows(&terminal, &[r#"  1/3  b  "ok""#, "  1/3  c  running"]);
    let screen = terminal.screen();
    assert_eq!(screen.iter().filter(|line| line.as_str() == "a (1)").count(), 1, "{screen:#?}");
    tell(&ground);
    let screen = wait_for_end(&terminal);
    assert_eq!(screen.iter().filter(|line| line.as_str() == "b,c (2)").count(), 1, "{screen:#?}");
    assert_eq!(screen.last().unwrap(), "exit 0");
}

#[test]
fn without_progress_nothing_moves() {
    for off in ["--progress=never", "-q"] {
        let ground = Ground::named(&["a", "b"]);
        let command = "case $HOME in *b) sleep 0.5;; esac; echo ok";
        let record = Terminal::run(&ground, &["exec", "-b", off, "--color", "never", command]).finish_recorded();
        assert!(record.starts_with(&format!("{RULE}\r\na,b (2)\r\n{RULE}\r\nok\r\n")), "{record:?}");
    }
}
