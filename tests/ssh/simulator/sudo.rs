//! Commands by sudo: what is said before them, who is asked, and what is left. The hosts' sudo is a script.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet::op::{Context, Script};
use fleet::transport::{KillResult, PASSWORD_NEEDED, TERMINAL_NEEDED};
use fleet::{Become, BecomeBy, Class, ErrorKind, Exec, ExecOutput, Host, HostResult, Input, Secret};
use fleet_sim::HostPlan;
use tempfile::TempDir;

use crate::ground::{Ground, pool, run, run_in, stderr, stdout};
use crate::sudo;

const PASSWORD: &str = "sudo's \"own\" $word\\";

/// The login shells that there are.
fn shells(dir: &Path) -> Vec<PathBuf> {
    let named = ["/bin/sh", "/usr/bin/dash", "/bin/bash", "/usr/bin/zsh", "/usr/bin/fish", "/usr/bin/tcsh"];
    let mut shells: Vec<PathBuf> = named.into_iter().map(PathBuf::from).filter(|shell| shell.exists()).collect();
    if Path::new("/usr/bin/busybox").exists() {
        let ash = dir.join("ash");
        std::os::unix::fs::symlink("/usr/bin/busybox", &ash).unwrap();
        shells.push(ash);
    }
    assert!(shells.len() >= 2, "{shells:?}");
    shells
}

struct Place {
    ground: Ground,
    dir: TempDir,
}

impl Place {
    /// Makes so many hosts whose sudo does this.
    fn new(mode: &str, count: usize) -> Self {
        Self::with(mode, |plan| vec![plan; count])
    }

    fn with(mode: &str, plans: impl FnOnce(HostPlan) -> Vec<HostPlan>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plan = HostPlan::new()
            .env("PATH", sudo::install(dir.path()))
            .env("FAKE_SUDO", mode)
            .env("FAKE_SUDO_PASSWORD", PASSWORD)
            .env("FAKE_SUDO_LOG", dir.path().join("log").to_str().unwrap())
            .env("TMPDIR", dir.path().join("tmp").to_str().unwrap());
        std::fs::create_dir(dir.path().join("tmp")).unwrap();
        Self { ground: Ground::start(plans(plan)), dir }
    }

    fn host(&self) -> Host {
        let mut host = self.ground.first();
        host.become_user = Some(Become::sudo());
        host.become_password = Some(Secret::from(PASSWORD));
        host
    }

    /// Runs a command, with the right password or with another.
    fn exec(&self, command: &str) -> HostResult<ExecOutput> {
        run(self.host(), Exec::new(command))
    }

    fn with_password(&self, password: Option<&str>) -> HostResult<ExecOutput> {
        let mut host = self.host();
        host.become_password = password.map(Secret::from);
        run(host, Exec::new("echo ran"))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn has_no_files(&self) -> bool {
        self.dir.path().join("tmp").read_dir().unwrap().next().is_none()
    }

    /// Waits until no watcher is left: one looks every 0.2 s whether it is needed.
    fn assert_no_watchers(&self) {
        let since = std::time::Instant::now();
        while watchers_of(self.dir.path()) > 0 {
            assert!(since.elapsed() < Duration::from_secs(20), "a watcher is left");
            std::thread::yield_now();
        }
    }
}

/// Counts the watchers over commands by a sudo that is installed there.
fn watchers_of(dir: &Path) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let mark = dir.to_str().unwrap().as_bytes().to_vec();
    let holds = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    all.filter(|entry| {
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        holds(&read("cmdline"), b"fleet-watch") && holds(&read("environ"), &mark)
    })
    .count()
}

fn reason(result: &HostResult<ExecOutput>) -> String {
    result.report.reason().unwrap_or_default()
}

#[test]
fn a_command_runs_as_it_is_by_whatever_way_sudo_goes() {
    let command = "printf 'o\\0\\n%s' \"it's ü \\\\ $USER\"; echo err >&2; cat; exit 41";
    for mode in ["nopasswd", "password", "lecture"] {
        for is_pty in ["no", "yes"] {
            let place = Place::with(mode, |plan| vec![plan.env("FAKE_SUDO_PTY", is_pty)]);
            let input: Vec<u8> = (0..=255).cycle().take(100_000).collect();
            let file = place.dir.path().join("input");
            std::fs::write(&file, &input).unwrap();
            for shell in [false, true] {
                let exec = Exec::new(command);
                let exec = if shell { exec.stdin(Input::open(&file).unwrap()) } else { exec };
                let result = run(place.host(), exec);
                let value = result.outcome.as_ref().unwrap();
                let mut expected = b"o\0\nit's \xc3\xbc \\ root".to_vec();
                if shell {
                    expected.extend_from_slice(&input);
                }
                assert_eq!(value.stdout.bytes().unwrap(), expected, "{mode} {is_pty}");
                assert_eq!((stderr(&result).as_str(), value.code()), ("err\n", Some(41)), "{mode} {is_pty}");
                assert_eq!(result.report.facts.stdout_bytes, expected.len() as u64);
                assert_eq!(result.report.facts.stderr_bytes, 4);
            }
        }
    }
}

#[test]
fn every_login_shell_starts_sudo() {
    let tmp = tempfile::tempdir().unwrap();
    for shell in shells(tmp.path()) {
        let place = Place::with("password", |plan| vec![HostPlan { shell: shell.clone(), ..plan }]);
        let context = Context::new().env("A", "b 'c'").cwd("/").export_host(true);
        let exec = Exec::new("printf '%s|' \"$A\" \"$PWD\" $FLEET_INDEX '!\\'; false; echo $?").within(context);
        let result = run(place.host(), exec.become_user(Become::sudo().user("some one")));
        assert_eq!(stdout(&result), "b 'c'|/|0|!\\|1\n", "{shell:?}: {}", reason(&result));
        assert_eq!(stderr(&result), "", "{shell:?}");
        assert_eq!(place.log(), "accepted\n", "{shell:?}");
    }
}

#[test]
fn the_locale_and_what_sudo_warns_of_stay() {
    let place = Place::with("warning", |plan| vec![plan.env("LC_ALL", "de_DE")]);
    let result = place.exec("echo $LC_ALL");
    assert_eq!(stdout(&result), "de_DE\n");
    assert_eq!(stderr(&result), "sudo: unable to resolve host web01: Name or service not known\n");
    assert_eq!(stdout(&Place::new("nopasswd", 1).exec("echo ${LC_ALL-unset}")), "unset\n");
}

#[test]
fn what_sudo_refuses_is_told_in_its_words() {
    let refusals = [
        ("stranger", "ops is not in the sudoers file"),
        ("limited", "sudo does not let ops run this as root"),
        ("requiretty", TERMINAL_NEEDED),
        ("expired", "sudo did not start the command: Account expired"),
        ("silent", "sudo ended with status 3 before the command"),
    ];
    for (mode, expected) in refusals {
        let result = Place::new(mode, 1).exec("echo ran");
        assert_eq!(reason(&result), expected, "{mode}");
        assert_eq!(result.error().map(fleet::Error::kind), Some(ErrorKind::Become), "{mode}");
        assert_eq!(result.class(), Class::Failed, "{mode}");
    }
    let place = Place::new("password", 1);
    assert_eq!(reason(&place.with_password(None)), PASSWORD_NEEDED);
    assert_eq!(place.log(), "");
    let bin = place.dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink("/bin/sh", bin.join("sh")).unwrap();
    let bare = Place::with("nopasswd", |plan| vec![plan.env("PATH", bin.to_str().unwrap())]);
    assert_eq!(reason(&bare.exec("echo ran")), "sudo is not installed");
}

#[test]
fn a_wrong_password_is_tried_once_on_a_host() {
    for tries in ["1", "3"] {
        let place = Place::with("password", |plan| vec![plan.env("FAKE_SUDO_TRIES", tries)]);
        let result = place.with_password(Some("wrong"));
        assert_eq!(reason(&result), "the sudo password was refused");
        assert_eq!((result.error().unwrap().kind(), result.class()), (ErrorKind::Become, Class::Failed));
        assert_eq!(place.log(), "refused\n");
        assert!(place.ground.sim.processes().is_empty());
    }
}

#[test]
fn a_wrong_password_is_tried_on_no_more_hosts_than_allowed() {
    for (secret, allowance) in [(Secret::from("wrong"), 3), (Secret::typed("wrong"), 1)] {
        let place = Place::new("password", 12);
        let hosts: Vec<_> = place.ground.hosts().into_iter().map(|host| becoming(&host, &secret)).collect();
        let results = pool().build().map(&hosts, Exec::new("echo ran"));
        assert_eq!(place.log().lines().count(), allowance, "{}", place.log());
        let of = |class| results.iter().filter(|result| result.class() == class).count();
        assert_eq!((of(Class::Failed), of(Class::NotStarted)), (allowance, 12 - allowance));
        let untried = results.iter().find(|result| result.class() == Class::NotStarted).unwrap();
        assert!(reason(untried).starts_with("not tried: the password of ops was refused "), "{}", reason(untried));
        assert_eq!(untried.error().unwrap().kind(), ErrorKind::Breaker);
    }
}

fn becoming(host: &Host, secret: &Secret) -> std::sync::Arc<Host> {
    let mut host = host.clone();
    host.become_user = Some(Become::sudo());
    host.become_password = Some(secret.clone());
    std::sync::Arc::new(host)
}

#[test]
fn a_right_password_lets_every_host_begin_and_nobody_is_asked_where_nobody_need() {
    for (mode, said) in [("password", "accepted"), ("nopasswd", "unasked")] {
        let place = Place::new(mode, 20);
        let typed = Secret::typed(PASSWORD);
        let hosts: Vec<_> = place.ground.hosts().into_iter().map(|host| becoming(&host, &typed)).collect();
        let fanout = NonZeroUsize::new(20).unwrap();
        let results = pool().fanout(fanout).build().map(&hosts, Exec::new("echo ran"));
        assert!(results.iter().all(|result| stdout(result) == "ran\n"), "{mode}");
        assert_eq!(place.log().lines().filter(|line| *line == said).count(), 20, "{mode}");
    }
}

#[test]
fn a_script_runs_by_sudo_and_leaves_no_file() {
    for mode in ["nopasswd", "password"] {
        for is_pty in ["no", "yes"] {
            let place = Place::with(mode, |plan| vec![plan.env("FAKE_SUDO_PTY", is_pty)]);
            let file = place.dir.path().join("input");
            std::fs::write(&file, "line 1\nline 2").unwrap();
            let text = format!(
                "#!/bin/bash\nls -A $TMPDIR; printf '<%s>' \"$0\" \"$USER\" \"$@\"; cat; exit 6\n{}",
                "#".repeat(200_000)
            );
            let script = Script::new(text).unwrap().args(["it's", "\\", ""]).stdin(Input::open(&file).unwrap());
            let result = run(place.host(), script);
            assert_eq!(stdout(&result), "</dev/fd/9><root><it's><\\><>line 1\nline 2", "{mode} {}", reason(&result));
            assert_eq!(stderr(&result), "");
            assert_eq!(result.value().unwrap().code(), Some(6));
            assert!(place.has_no_files());
        }
    }
    let empty = Script::new("").unwrap();
    assert_eq!(run(Place::new("nopasswd", 1).host(), empty).value().unwrap().code(), Some(0));
}

#[test]
fn an_operation_may_say_another_user_than_the_host() {
    let place = Place::new("nopasswd", 1);
    let mut host = place.host();
    host.become_user = None;
    assert_eq!(stdout(&run(host.clone(), Exec::new("echo $SUDO_USER"))), "\n");
    let exec = Exec::new("echo $USER").become_user(Become::sudo().user("www"));
    assert_eq!(stdout(&run(host, exec)), "www\n");
    assert_eq!(BecomeBy::from_name("sudo"), Some(BecomeBy::Sudo));
}

#[test]
fn a_timeout_ends_all_of_a_command_by_sudo() {
    for is_pty in ["no", "yes"] {
        let place = Place::with("password", |plan| vec![plan.env("FAKE_SUDO_PTY", is_pty)]);
        let command = "setsid sleep 4242 & sleep 4242 & echo begun; sleep 4242 | cat";
        let result = run_in(pool().timeout(Duration::from_secs(2)), place.host(), Exec::new(command));
        assert_eq!(result.class(), Class::TimedOut, "{}", reason(&result));
        assert_eq!(stdout(&result), "begun\n");
        assert_eq!(result.value().unwrap().ended.killed.unwrap().result, KillResult::Killed);
        place.assert_no_watchers();
    }
}

#[test]
fn a_timeout_at_the_prompt_ends_sudo() {
    let place = Place::with("password", |plan| vec![plan.env("FAKE_SUDO_SLOW", "1")]);
    let result = run_in(pool().timeout(Duration::from_millis(200)), place.host(), Exec::new("echo ran"));
    assert_eq!(result.class(), Class::TimedOut);
    assert_eq!(stdout(&result), "");
    assert_eq!(stderr(&result), "");
}

#[test]
fn a_daemon_that_a_command_left_lives_and_its_watcher_does_not() {
    let place = Place::new("nopasswd", 1);
    let pid = place.dir.path().join("pid");
    let command =
        format!("setsid sleep 4243 >/dev/null 2>&1 </dev/null & echo $! >{}; sleep 0.6; echo over", pid.display());
    let result = place.exec(&command);
    assert_eq!(stdout(&result), "over\n");
    place.assert_no_watchers();
    let pid = std::fs::read_to_string(pid).unwrap().trim().to_owned();
    assert!(std::process::Command::new("kill").arg(&pid).status().unwrap().success(), "the daemon lives");
}
