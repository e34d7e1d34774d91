//! Containers of this test process alone, and the binary run against them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What every project of these tests is named, before the process id.
const PREFIX: &str = "fleet-test-";

static FIXTURE: Mutex<Option<Fixture>> = Mutex::new(None);

/// The containers, one test at a time.
pub(crate) struct Fixture {
    project: String,
    dir: PathBuf,
    /// Whether something may be stopped, paused or disconnected.
    is_disturbed: bool,
    /// Hosts without their network.
    cut_off: Vec<String>,
    /// When this process ends, however it ends, the guard reads the end of its input and takes everything down.
    _guard: Child,
}

/// Returns the fixture, started or mended.
pub(crate) fn fixture() -> Turn {
    let mut slot = FIXTURE.lock().unwrap_or_else(|poisoned| {
        FIXTURE.clear_poison();
        let mut slot = PoisonError::into_inner(poisoned);
        // Whatever a failed test left behind.
        slot.iter_mut().for_each(|fixture| fixture.is_disturbed = true);
        slot
    });
    let fixture = slot.get_or_insert_with(Fixture::new);
    if fixture.is_disturbed {
        for host in fixture.cut_off.clone() {
            fixture.reconnect(&host);
        }
        fixture.up();
        fixture.is_disturbed = false;
    }
    Turn(slot)
}

/// The fixture in the hands of one test.
pub(crate) struct Turn(MutexGuard<'static, Option<Fixture>>);

impl std::ops::Deref for Turn {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        self.0.as_ref().unwrap()
    }
}

impl std::ops::DerefMut for Turn {
    fn deref_mut(&mut self) -> &mut Fixture {
        self.0.as_mut().unwrap()
    }
}

impl Turn {
    /// Lets the next test mend what this one is about to break.
    pub(crate) fn disturb(&mut self) {
        self.0.as_mut().unwrap().is_disturbed = true;
    }

    /// Takes a host off its network: packets vanish.
    pub(crate) fn disconnect(&mut self, host: &str) {
        self.disturb();
        self.network("disconnect", host);
        self.0.as_mut().unwrap().cut_off.push(host.to_owned());
    }
}

impl Fixture {
    fn new() -> Self {
        let pid = std::process::id();
        let project = format!("{PREFIX}{pid}");
        let dir = std::env::temp_dir().join(format!("{PREFIX}docker-{pid}"));
        remove_leftovers();
        // In a session of its own, so that Ctrl-C leaves it alone.
        let script = "cat >/dev/null; flock \"$LOCK\" timeout 120 \"$DOWN\"; rm -rf \"$FLEET_DOCKER_DIR\"";
        let guard = Command::new("setsid")
            .args(["sh", "-c", script])
            .env("FLEET_DOCKER_PROJECT", &project)
            .env("FLEET_DOCKER_DIR", &dir)
            .env("LOCK", lock())
            .env("DOWN", script_path("down"))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self { project, dir, is_disturbed: true, cut_off: Vec::new(), _guard: guard }
    }

    /// Starts what does not run and writes the inventories.
    pub(crate) fn up(&self) {
        self.script("up");
    }

    /// Removes the containers; keys and secrets stay.
    pub(crate) fn down(&self) {
        self.script("down");
    }

    fn script(&self, name: &str) {
        let output = Command::new(script_path(name))
            .env("FLEET_DOCKER_PROJECT", &self.project)
            .env("FLEET_DOCKER_DIR", &self.dir)
            .env("FLEET_DOCKER_EPHEMERAL", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "docker/{name}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs `docker VERB ARGS… CONTAINER` for a host.
    pub(crate) fn docker(&self, args: &[&str], host: &str) {
        docker(&[args, &[&self.container(host)]].concat());
    }

    /// Runs a command as root on a host, and returns what it writes.
    pub(crate) fn on(&self, host: &str, command: &str) -> String {
        docker(&["exec", &self.container(host), "sh", "-c", command])
    }

    fn network(&self, verb: &str, host: &str) {
        docker(&["network", verb, &format!("{}_public", self.project), &self.container(host)]);
    }

    /// Puts a host on its network again, perhaps under another address.
    pub(crate) fn reconnect(&mut self, host: &str) {
        self.network("connect", host);
        self.cut_off.retain(|cut_off| cut_off != host);
    }

    fn container(&self, host: &str) -> String {
        format!("{}-{host}", self.project)
    }

    /// Returns what a host's sshd has logged.
    pub(crate) fn log(&self, host: &str) -> String {
        let output = Command::new("docker").args(["logs", &self.container(host)]).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
    }

    /// Returns the command lines of the processes that the user `ops` has on a host, sshd aside.
    pub(crate) fn processes(&self, host: &str) -> Vec<String> {
        let processes = docker(&["exec", &self.container(host), "ps", "-eo", "user=,stat=,args="]);
        let of_ops = processes.lines().filter_map(|line| line.strip_prefix("ops ")).map(str::trim);
        // A zombie has ended; who reaps it is init's business.
        of_ops.filter(|line| !line.starts_with('Z') && !line.contains("sshd: ")).map(str::to_owned).collect()
    }

    /// Waits until the user `ops` has no processes on a host: one that was killed ends when it next runs.
    pub(crate) fn assert_no_processes(&self, host: &str) {
        let since = Instant::now();
        while let processes = self.processes(host)
            && !processes.is_empty()
        {
            assert!(since.elapsed() < Duration::from_secs(5), "{host} still runs {processes:?}");
        }
    }

    /// Returns the command lines of a host's processes that contain a text, whosever they are.
    pub(crate) fn processes_with(&self, host: &str, text: &str) -> Vec<String> {
        let processes = docker(&["exec", &self.container(host), "ps", "-eo", "stat=,args="]);
        let alive = processes.lines().filter(|line| !line.starts_with('Z') && line.contains(text));
        alive.map(str::to_owned).collect()
    }

    /// Waits until no process of a host contains a text.
    pub(crate) fn assert_no_processes_with(&self, host: &str, text: &str) {
        let since = Instant::now();
        while let processes = self.processes_with(host, text)
            && !processes.is_empty()
        {
            assert!(since.elapsed() < Duration::from_secs(10), "{host} still runs {processes:?}");
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Writes a file that only its owner reads.
    pub(crate) fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Returns the published port of each host.
    pub(crate) fn ports(&self) -> BTreeMap<String, u16> {
        let inventory: toml::Table = self.read("hosts.toml").parse().unwrap();
        let hosts = inventory["hosts"].as_table().unwrap();
        hosts
            .iter()
            .map(|(name, host)| (name.clone(), host["port"].as_integer().unwrap().try_into().unwrap()))
            .collect()
    }

    /// Returns the command that runs the binary beside the inventories, without a terminal.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("setsid");
        command.args(["env", "--default-signal=INT,HUP,TERM,PIPE", env!("CARGO_BIN_EXE_fleet")]).args(args);
        command.current_dir(&self.dir).stdin(Stdio::null());
        command.env_clear().env("HOME", &self.dir).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn fleet(&self, args: &[&str]) -> Said {
        Said::of(&self.command(args).output().unwrap())
    }

    /// Starts the binary and waits until it has written so many lines.
    pub(crate) fn start(&self, args: &[&str], lines: usize) -> Running {
        let mut child = self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut running = Running {
            stdout: Box::new(BufReader::new(child.stdout.take().unwrap())),
            stderr: Box::new(BufReader::new(child.stderr.take().unwrap())),
            first: String::new(),
            child,
        };
        for _ in 0..lines {
            if running.stdout.read_line(&mut running.first).unwrap() == 0 {
                panic!("it ended early: {}", running.finish().stderr);
            }
        }
        running
    }
}

/// What a run of the binary said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Returns the lines of standard error that begin like this.
    pub(crate) fn lines(&self, start: &str) -> Vec<&str> {
        self.stderr.lines().filter(|line| line.starts_with(start)).collect()
    }

    /// Returns the JSON events of this kind.
    pub(crate) fn events(&self, kind: &str) -> Vec<serde_json::Value> {
        let events = self.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        events.filter(|event| event["event"] == kind).collect()
    }
}

/// A run of the binary that goes on.
pub(crate) struct Running {
    child: Child,
    stdout: Box<dyn BufRead>,
    stderr: Box<dyn BufRead>,
    first: String,
}

impl Running {
    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Reads the next line of standard error.
    pub(crate) fn error_line(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).unwrap();
        line
    }

    /// Waits for the end.
    pub(crate) fn finish(mut self) -> Said {
        let (mut stdout, mut stderr) = (self.first.into_bytes(), Vec::new());
        self.stdout.read_to_end(&mut stdout).unwrap();
        self.stderr.read_to_end(&mut stderr).unwrap();
        Said::of(&Output { status: self.child.wait().unwrap(), stdout, stderr })
    }
}

fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().unwrap();
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn script_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker").join(name)
}

/// Held while something is taken down, so that two never do it at once.
fn lock() -> PathBuf {
    std::env::temp_dir().join(format!("{PREFIX}docker.lock"))
}

/// Removes what processes that are gone could not take down themselves.
fn remove_leftovers() {
    let format = "{{.Label \"com.docker.compose.project\"}}";
    let ours = ["--filter", "label=fleet.fixture=sshd", "--format", format];
    let containers = docker(&[&["ps", "-a"], &ours[..]].concat());
    let networks = docker(&[&["network", "ls"], &ours[..]].concat());
    let mut projects: Vec<&str> = containers.lines().chain(networks.lines()).collect();
    projects.sort_unstable();
    projects.dedup();
    for project in projects {
        let Some(pid) = project.strip_prefix(PREFIX).and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if Path::new("/proc").join(pid.to_string()).exists() {
            continue;
        }
        let mut down = Command::new("flock");
        down.arg(lock()).arg(script_path("down")).env("FLEET_DOCKER_PROJECT", project);
        // What cannot be removed now is left to the next time.
        let _ = down.output();
    }
}
