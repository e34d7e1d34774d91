//! What a person sees: the binary on a real terminal (tmux), and what stands on its screen.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

mod enter;
mod folding;
mod lines;
mod progress;
mod prompts;
mod stops;

use super::Ground;
use super::ground::PASSWORD;

/// How long a screen may take to show what is expected.
const PATIENCE: Duration = Duration::from_secs(20);

/// A terminal of 100 columns and 30 lines.
struct Terminal {
    /// Of a server of its own; the file goes with the ground's directory.
    socket: PathBuf,
    /// Everything that was written to the terminal.
    record: PathBuf,
}

impl Terminal {
    /// Runs the binary in a terminal, where `hosts.toml` of the ground is.
    fn run(ground: &Ground, args: &[&str]) -> Self {
        Self::shell(ground, &fleet(ground, args), 100)
    }

    /// Runs a shell's line in a terminal so many columns wide.
    fn shell(ground: &Ground, line: &str, columns: usize) -> Self {
        Self::sized(ground, line, columns, 30)
    }

    /// Runs a shell's line in a terminal of so many columns and rows.
    fn sized(ground: &Ground, line: &str, columns: usize, rows: usize) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = ground.fleet.dir();
        let socket = dir.join(format!("tmux-{number}"));
        let terminal = Self { socket, record: dir.join(format!("record-{number}")) };
        // The interrupts are meant for what runs in it. At last it waits to be looked at, but never for ever.
        let script = format!(
            "export HOME='{}'; unset NO_COLOR; trap : INT; tmux wait-for begin; {line}; echo exit $?; tmux wait-for -S done; sleep 600",
            dir.display()
        );
        let (columns, rows, dir) = (columns.to_string(), rows.to_string(), dir.to_str().unwrap());
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows, "-c", dir, &script]);
        terminal.tmux(&["pipe-pane", "-o", &format!("cat > '{}'", terminal.record.display())]);
        terminal.tmux(&["wait-for", "-S", "begin"]);
        terminal
    }

    /// Waits for the end and returns everything that was written to the terminal.
    fn finish_recorded(self) -> String {
        self.tmux(&["wait-for", "done"]);
        let since = Instant::now();
        loop {
            let record = std::fs::read(&self.record).unwrap_or_default();
            let record = String::from_utf8_lossy(&record).into_owned();
            if record.contains("\nexit ") && record.ends_with('\n') {
                return record;
            }
            assert!(since.elapsed() < PATIENCE, "the record has no end:\n{record}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn tmux(&self, args: &[&str]) -> String {
        let output = Command::new("tmux").arg("-S").arg(&self.socket).args(args).output().unwrap();
        assert!(output.status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns the lines on the screen, without the empty ones at its end.
    fn screen(&self) -> Vec<String> {
        let text = self.tmux(&["capture-pane", "-p"]);
        text.trim_end().lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// Returns all lines that were ever on the screen and are not cleared, those that scrolled off first.
    fn history(&self) -> Vec<String> {
        let text = self.tmux(&["capture-pane", "-p", "-S", "-"]);
        text.trim_end().lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// Changes the size.
    fn resize(&self, columns: usize, rows: usize) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// Waits until a line begins like this.
    fn wait_for(&self, start: &str) {
        let since = Instant::now();
        loop {
            let screen = self.screen();
            if screen.iter().any(|line| line.starts_with(start)) {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "no line begins with {start:?}:\n{}", screen.join("\n"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for a prompt and until what is typed does not show, then types.
    fn answer(&self, prompt: &str, text: &str) {
        self.wait_for_hidden_input(prompt);
        if !text.is_empty() {
            self.press(&["-l", text]);
        }
        self.press(&["Enter"]);
    }

    /// Waits for a prompt and until what is typed does not show.
    fn wait_for_hidden_input(&self, prompt: &str) {
        self.wait_for(prompt);
        let tty = self.tmux(&["display-message", "-p", "#{pane_tty}"]);
        let since = Instant::now();
        loop {
            let modes = Command::new("stty").args(["-a", "-F", tty.trim()]).output().unwrap();
            if String::from_utf8_lossy(&modes.stdout).contains(" -echo ") {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "the terminal shows what is typed");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Waits for the end and returns what stands on the screen.
    fn finish(self) -> Vec<String> {
        self.tmux(&["wait-for", "done"]);
        self.screen()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").output();
    }
}

/// Writes the command that runs the binary, for a shell.
fn fleet(ground: &Ground, args: &[&str]) -> String {
    let command = ground.fleet.command(args);
    // Without `setsid`, so that it has the terminal.
    let words = command.get_args().map(|word| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''")));
    words.collect::<Vec<_>>().join(" ")
}

/// Lets commands wait for a file that the test makes when it has seen what it wanted.
fn until_told(ground: &Ground) -> String {
    format!("while [ ! -e '{}' ]; do sleep 0.05; done", ground.fleet.dir().join("go").display())
}

fn tell(ground: &Ground) {
    std::fs::write(ground.fleet.dir().join("go"), "").unwrap();
}

#[test]
fn output_and_the_progress_line_do_not_tear_each_other() {
    let ground = Ground::healthy(3);
    let wait = until_told(&ground);
    let command = format!("echo first; {wait}; for i in 1 2 3; do echo line $i; echo 'x' >&2; sleep 0.1; done");
    let terminal = Terminal::run(&ground, &["exec", &command]);
    terminal.wait_for("fleet: [                    ] 0/3 done, 3 running");
    tell(&ground);
    let mut screen = terminal.finish();
    assert_eq!(screen.pop().unwrap(), "exit 0");
    assert!(screen.pop().unwrap().starts_with("fleet: 3 hosts: 3 ok in "));
    screen.sort();
    let expected: Vec<String> = (1..=3)
        .flat_map(|host| {
            ["first", "line 1", "line 2", "line 3", "x", "x", "x"].map(|line| format!("sim000{host}: {line}"))
        })
        .collect();
    assert_eq!(screen, expected);
}

#[test]
fn nothing_on_a_host_steers_the_terminal() {
    let ground = Ground::healthy(1);
    let terminal = Terminal::run(&ground, &["exec", r"printf '\033[2Jbold\007\nhidden\rshown\r\n'"]);
    let screen = terminal.finish();
    assert_eq!(screen[..3], [r"sim0001: \x1b[2Jbold\x07", "sim0001: hidden", "sim0001: shown"]);
}

#[test]
fn control_c_says_who_still_runs_then_ends_it() {
    let ground = Ground::healthy(2);
    let terminal = Terminal::run(&ground, &["exec", "-f", "1", "echo begun; sleep 60"]);
    terminal.wait_for("sim0001: begun");
    terminal.press(&["C-c"]);
    terminal.wait_for("fleet: stopping: no new hosts; 1 still running: sim0001; press again to end them");
    terminal.press(&["C-c"]);
    let screen = terminal.finish();
    let own: Vec<&str> = screen.iter().map(String::as_str).filter(|line| line.starts_with("fleet: ")).collect();
    assert_eq!(own[3], "fleet: sim0001: cancelled: stopped, remote process killed");
    assert!(own[4].starts_with("fleet: 2 hosts: 0 ok, 1 cancelled, 1 not started in "), "{own:?}");
    assert_eq!(screen.last().unwrap(), "exit 130");
    ground.assert_no_processes();
}

#[test]
fn a_password_is_asked_for_once_and_not_shown() {
    let ground = Ground::healthy(3);
    let terminal = Terminal::run(&ground, &["ping", "-A"]);
    terminal.answer("fleet: login password (for sim0001 and all alike):", PASSWORD);
    let screen = terminal.finish();
    assert_eq!(screen[0], "fleet: login password (for sim0001 and all alike):");
    assert!(screen[1].starts_with("fleet: 3 hosts: 3 ok in "), "{screen:?}");
    assert_eq!(screen[2], "exit 0");
}

#[test]
fn a_locked_key_is_unlocked_once() {
    let ground = Ground::healthy(2);
    let locked = Command::new("ssh-keygen")
        .args(["-q", "-p", "-N", "open sesame", "-f"])
        .arg(ground.fleet.dir().join("key"))
        .output()
        .unwrap();
    assert!(locked.status.success());
    let terminal = Terminal::run(&ground, &["ping"]);
    terminal.answer("fleet: passphrase of key ", "open sesame");
    let screen = terminal.finish().join("\n");
    assert!(screen.contains("fleet: 2 hosts: 2 ok in "), "{screen}");
    assert!(!screen.contains("sesame"), "{screen}");
}
