//! A real OpenSSH `sshd` on loopback, for tests: its own keys and configuration in a temporary directory, no fixed port.
//!
//! ```ignore
//! let sshd = Sshd::builder().authorized_keys(&public_line).config("MaxSessions 2").start();
//! connect(sshd.port());
//! ```

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;

/// A running server; ended when it is dropped.
#[derive(Debug)]
pub(crate) struct Sshd {
    dir: TempDir,
    child: Child,
    port: u16,
    host_keys: Vec<String>,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// How to start an [`Sshd`].
#[derive(Debug)]
pub(crate) struct Builder {
    host_keys: Vec<String>,
    authorized_keys: String,
    second_authorized_keys: String,
    config: Vec<String>,
    match_blocks: Vec<String>,
}

impl Builder {
    /// Sets the types of the host keys, as `ssh-keygen -t` spells them. Default: `ed25519` alone.
    pub(crate) fn host_keys(mut self, types: &[&str]) -> Self {
        self.host_keys = types.iter().map(|&kind| kind.to_owned()).collect();
        self
    }

    /// Adds lines to `authorized_keys`.
    pub(crate) fn authorized_keys(mut self, lines: &str) -> Self {
        self.authorized_keys.push_str(lines.trim_end());
        self.authorized_keys.push('\n');
        self
    }

    /// Adds a line to `sshd_config`, instead of the built-in one that sets the same.
    pub(crate) fn config(mut self, line: &str) -> Self {
        self.config.push(line.to_owned());
        self
    }

    /// Lets the user's own `.ssh/authorized_keys` in this home count as well.
    pub(crate) fn second_authorized_keys(mut self, home: &str) -> Self {
        self.second_authorized_keys = format!("{home}/.ssh/authorized_keys");
        self
    }

    /// Adds a `Match` block at the end of `sshd_config`.
    pub(crate) fn match_block(mut self, lines: &str) -> Self {
        self.match_blocks.push(lines.to_owned());
        self
    }

    /// Starts the server and waits until it listens.
    ///
    /// # Panics
    /// When sshd is not installed, refuses its configuration, or does not listen within 20 s.
    pub(crate) fn start(self) -> Sshd {
        let dir = tempfile::Builder::new().prefix("fleet-sshd-").tempdir().expect("a temporary directory");
        let host_keys = self.host_keys.iter().map(|kind| make_host_key(dir.path(), kind)).collect::<Vec<_>>();
        let authorized_keys = dir.path().join("authorized_keys");
        fs::write(&authorized_keys, &self.authorized_keys).expect("write authorized_keys");
        fs::set_permissions(&authorized_keys, Permissions::from_mode(0o600)).expect("chmod authorized_keys");
        if Path::new("/run").is_dir() && is_root() {
            // Where sshd separates its privileges; Debian makes it only when the service starts.
            fs::create_dir_all("/run/sshd").expect("create /run/sshd");
        }
        let mut launched = self.launch(dir.path());
        // Between the choice of a port and sshd's bind somebody else may take it.
        for _ in 0..10 {
            if !launched.as_ref().is_err_and(|log| log.contains("Address already in use")) {
                break;
            }
            launched = self.launch(dir.path());
        }
        let (port, (child, log, reader)) = launched.expect("sshd starts");
        Sshd { dir, child, port, host_keys, log, reader: Some(reader) }
    }

    fn launch(&self, dir: &Path) -> Result<(u16, Launched), String> {
        let port = free_port();
        self.write_config(dir, port);
        launch(dir).map(|launched| (port, launched))
    }

    /// Tells whether a test has set what a built-in line sets: of MaxStartups sshd takes the last value, not the first.
    fn is_configured(&self, line: &str) -> bool {
        let keyword = |line: &str| line.split(' ').next().map(str::to_lowercase);
        self.config.iter().any(|own| keyword(own) == keyword(line))
    }

    fn write_config(&self, dir: &Path, port: u16) {
        let mut lines = self.config.clone();
        lines.push(format!("Port {port}"));
        lines.push("ListenAddress 127.0.0.1".to_owned());
        lines.extend(self.host_keys.iter().map(|kind| format!("HostKey {}", host_key_path(dir, kind).display())));
        let own = dir.join("authorized_keys");
        lines.push(format!("AuthorizedKeysFile {} {}", own.display(), self.second_authorized_keys));
        lines.extend(
            [
                "PidFile none",
                "LogLevel VERBOSE",
                "StrictModes no",
                "UsePAM no",
                "UseDNS no",
                "PermitRootLogin yes",
                "PasswordAuthentication no",
                "KbdInteractiveAuthentication no",
                "PrintMotd no",
                "MaxStartups 1000",
                "Subsystem sftp internal-sftp",
            ]
            .into_iter()
            .filter(|line| !self.is_configured(line))
            .map(str::to_owned),
        );
        lines.extend(self.match_blocks.iter().cloned());
        fs::write(dir.join("sshd_config"), lines.join("\n") + "\n").expect("write sshd_config");
    }
}

impl Sshd {
    /// Describes a server with one ed25519 host key that lets nobody in.
    pub(crate) fn builder() -> Builder {
        Builder {
            host_keys: vec!["ed25519".to_owned()],
            authorized_keys: String::new(),
            second_authorized_keys: String::new(),
            config: Vec::new(),
            match_blocks: Vec::new(),
        }
    }

    /// Returns the port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the name of the user who may log in: the one who runs the tests.
    pub(crate) fn user(&self) -> String {
        output(Command::new("id").arg("-un"))
    }

    /// Returns the server's directory, for more files.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the public host keys, `TYPE BASE64` each.
    pub(crate) fn host_keys(&self) -> &[String] {
        &self.host_keys
    }

    /// Returns a `known_hosts` file with every host key.
    pub(crate) fn known_hosts(&self) -> String {
        self.host_keys.iter().map(|key| format!("[127.0.0.1]:{} {key}\n", self.port)).collect()
    }

    /// Returns what the server has logged until now.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Returns the process id of the listener.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The reader ends with the last session's sshd, which may outlive the listener: it is not waited for.
        drop(self.reader.take());
    }
}

type Launched = (Child, Arc<Mutex<String>>, JoinHandle<()>);

/// Starts sshd and reads its log until it listens; the log comes back if it does not.
fn launch(dir: &Path) -> Result<Launched, String> {
    let mut child = Command::new(sshd_path())
        .arg("-D")
        .arg("-e")
        .arg("-f")
        .arg(dir.join("sshd_config"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", sshd_path().display()))?;
    let stderr = child.stderr.take().expect("stderr is piped");
    let log = Arc::new(Mutex::new(String::new()));
    let (listens, listening) = mpsc::channel();
    let text = Arc::clone(&log);
    let reader = std::thread::Builder::new()
        .name("sshd-log".to_owned())
        .spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                let is_listening = line.starts_with("Server listening on");
                *text.lock().unwrap() += &(line + "\n");
                if is_listening {
                    let _ = listens.send(());
                }
            }
        })
        .expect("start a thread");
    match listening.recv_timeout(Duration::from_secs(20)) {
        Ok(()) => Ok((child, log, reader)),
        Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => {
            let _ = child.kill();
            let _ = child.wait();
            let log = log.lock().unwrap().clone();
            Err(log)
        }
    }
}

fn sshd_path() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join("sshd"))
        .find(|file| file.is_absolute() && file.is_file())
        .expect("sshd is not installed: apt-get install openssh-server")
}

fn host_key_path(dir: &Path, kind: &str) -> PathBuf {
    dir.join(format!("host_{kind}"))
}

fn make_host_key(dir: &Path, kind: &str) -> String {
    let path = host_key_path(dir, kind);
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-N", "", "-C", "", "-t", kind, "-f"]).arg(&path);
    if kind == "rsa" {
        keygen.args(["-b", "2048"]);
    }
    output(&mut keygen);
    let line = fs::read_to_string(path.with_extension("pub")).expect("read a public host key");
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a port");
    listener.local_addr().expect("a local address").port()
}

fn is_root() -> bool {
    output(Command::new("id").arg("-u")) == "0"
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("ssh-keygen and id are installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
