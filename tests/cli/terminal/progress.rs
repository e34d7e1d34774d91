//! What stands below the output while a run goes on: the hosts that take longest, and a line for the whole.

use std::time::Instant;

use fleet_sim::{Fault, HostPlan};

use super::{PATIENCE, Terminal, fleet, tell, until_told};
use crate::ground::Ground;

const WHOLE: &str = "fleet: [";

impl Terminal {
    /// Waits for a screen that is as it should be, and returns it.
    pub(super) fn wait_until(&self, what: &str, is_so: impl Fn(&[String]) -> bool) -> Vec<String> {
        let since = Instant::now();
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                return screen;
            }
            assert!(since.elapsed() < PATIENCE, "not {what}:\n{}", screen.join("\n"));
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

fn is_host(line: &str) -> bool {
    line.starts_with("  ")
}

/// Asserts that nothing of the progress is left anywhere.
fn assert_gone(lines: &[String]) {
    assert!(!lines.iter().any(|line| is_host(line) || line.starts_with(WHOLE)), "{}", lines.join("\n"));
}

#[test]
fn the_hosts_that_take_longest_stand_above_the_whole() {
    let stalled = HostPlan::new().name("db-stalled").fault("stall-login".parse().unwrap());
    let plans = ["web1", "web2"].map(|name| HostPlan::new().name(name)).into_iter().chain([stalled]);
    let ground = Ground::start(plans.collect());
    let command = format!("case $HOME in *web2) exit 3;; esac; echo begun; {}; seq 60", until_told(&ground));
    let terminal = Terminal::run(&ground, &["exec", "--color", "never", "-t", "60", &command]);
    let screen = terminal.wait_until("two hosts", |screen| screen.iter().filter(|line| is_host(line)).count() == 2);
    // They started together: who is first is open.
    let mut foot = screen[screen.len() - 3..].to_vec();
    foot[..2].sort();
    assert!(foot[0].starts_with("  db-stalled  login"), "{screen:#?}");
    assert!(foot[1].starts_with("  web1        running"), "{screen:#?}");
    assert!(foot[2].starts_with("fleet: [======>             ] 1/3 done, 2 running, 1 failed, "), "{screen:#?}");
    assert!(foot[2].contains("/min, ") || foot[2].contains("/s, "), "{screen:#?}");
    tell(&ground);
    // More than the screen holds: it scrolls above what stands below.
    let is_scrolled = |screen: &[String]| {
        let below: Vec<&String> = screen.iter().skip_while(|line| *line != "web1:       60").skip(1).collect();
        let is_foot = below.iter().all(|line| is_host(line) || line.starts_with(WHOLE));
        is_foot && below.len() > 1 && below[below.len() - 1].starts_with(WHOLE)
    };
    terminal.wait_until("scrolled", is_scrolled);
    // What the terminal has not read when Ctrl-C is pressed is lost: nothing else is about to change.
    terminal.wait_until("one host", |screen| screen.iter().filter(|line| is_host(line)).count() == 1);
    terminal.press(&["C-c"]);
    terminal.tmux(&["wait-for", "done"]);
    let lines = terminal.history();
    assert_gone(&lines);
    assert_eq!(lines.iter().filter(|line| line.starts_with("web1: ")).count(), 61, "{lines:#?}");
    assert_eq!(lines.last().unwrap(), "exit 130");
}

#[test]
fn a_transfer_shows_bytes_of_the_whole_and_of_each_host() {
    let ground = Ground::start(vec![HostPlan::new().fault(Fault::StallSftp { after_requests: 1500 })]);
    // What went before it stalls takes longer than the tenth of a second between two events.
    std::fs::write(ground.fleet.dir().join("big"), vec![0; 64 << 20]).unwrap();
    let terminal = Terminal::run(&ground, &["put", "big", "there"]);
    terminal.wait_for("fleet: [");
    // The rate is that of the last moment.
    let is_stalled = |screen: &[String]| screen[0].ends_with(" MiB/64.00 MiB, 0 B/s");
    let screen = terminal.wait_until("bytes", is_stalled);
    assert!(screen[0].starts_with("  sim0001  transfer"), "{screen:#?}");
    assert!(screen[1].contains("] 0/1 done, 1 running, ") && screen[1].contains(" MiB, "), "{screen:#?}");
    terminal.press(&["C-c"]);
    let screen = terminal.finish();
    assert_gone(&screen);
    assert_eq!(screen.last().unwrap(), "exit 130", "{screen:?}");
}

#[test]
fn a_small_terminal_shows_less_and_is_never_filled() {
    let names: Vec<String> = (0..12).map(|number| format!("host-with-a-long-name-{number}")).collect();
    let ground = Ground::named(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let args = ["exec", "--color", "never", "-N", &until_told(&ground)];
    let terminal = Terminal::sized(&ground, &fleet(&ground, &args), 30, 9);
    let of_three = |screen: &[String]| screen.iter().filter(|line| is_host(line)).count() == 3;
    let screen = terminal.wait_until("a third of the rows", of_three);
    assert_eq!(screen.len(), 4, "{screen:#?}");
    // Each has one line, whatever it says.
    assert!(screen[3].starts_with(WHOLE), "{screen:#?}");

    terminal.resize(100, 40);
    let of_eight = |screen: &[String]| screen.iter().filter(|line| is_host(line)).count() == 8;
    let screen = terminal.wait_until("the most hosts", of_eight);
    assert!(screen[8].contains("0/12 done, 12 running"), "{screen:#?}");

    terminal.resize(24, 2);
    let screen = terminal.wait_until("the whole alone", |screen| !screen.iter().any(|line| is_host(line)));
    assert_eq!(screen.iter().filter(|line| line.starts_with(WHOLE)).count(), 1, "{screen:#?}");

    tell(&ground);
    assert_gone(&terminal.finish());
}

#[test]
fn progress_may_be_switched_off() {
    let ground = Ground::named(&["a"]);
    let args = ["exec", "--color", "never", "--progress=never", "echo begun; sleep 0.5"];
    let record = Terminal::run(&ground, &args).finish_recorded();
    assert!(record.starts_with("a: begun\r\n\r\x1b[Kfleet: 1 host: 1 ok in "), "{record:?}");
}
