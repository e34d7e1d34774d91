//! `ProxyCommand`: a local command whose standard input and output are the connection (ssh_config(5)).

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use socket2::Socket;

use super::io::{Reached, Way, printable};
use crate::error::{Error, ErrorKind, Phase, Result};

/// How much of what the command wrote to standard error is kept, in bytes: its end.
const STDERR_KEPT: usize = 4096;

/// The stack of the thread that reads it, in bytes.
const STACK: usize = 128 * 1024;

/// How long the command may take to end after it was told to, before it is killed; and how long to be gone after that.
const GRACE: Duration = Duration::from_millis(100);

/// How long its last words are waited for once its end of the connection is closed: a busy machine takes a moment to end a process.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long a wait for the command's end lasts at a time.
const SLICE: Duration = Duration::from_millis(2);

/// Starts a command as ssh does: by the user's shell, replaced by the command.
///
/// It has a process group of its own: a Ctrl-C on the terminal is fleet's to act on.
pub(super) fn start(command: &str) -> Result<Reached> {
    let failed = |cause: io::Error| {
        let kind = match cause.raw_os_error() {
            Some(libc::EAGAIN | libc::EMFILE | libc::ENFILE | libc::ENOMEM) => ErrorKind::LocalLimit,
            _ => ErrorKind::Connect,
        };
        Error::new(kind, format!("cannot run the ProxyCommand `{command}`")).caused_by(cause).in_phase(Phase::Connect)
    };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let also_theirs = theirs.try_clone().map_err(failed)?;
    // A socket, not a pipe: it can be shut, whoever else holds the other end.
    let (stderr, their_stderr) = UnixStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into());
    let child = Command::new(shell)
        .arg("-c")
        .arg(format!("exec {command}"))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(OwnedFd::from(also_theirs)))
        .stderr(Stdio::from(OwnedFd::from(their_stderr)))
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let mut proxy = Proxy {
        command: command.to_owned(),
        child: Mutex::new(child),
        is_reaped: AtomicBool::new(false),
        said: Arc::default(),
        stderr: stderr.try_clone().map_err(failed)?,
        reader: Mutex::default(),
    };
    let said = Arc::clone(&proxy.said);
    let reader = Builder::new().name("fleet-proxy".to_owned()).stack_size(STACK);
    let reader = reader.spawn(move || listen(stderr, &said)).map_err(failed)?;
    *proxy.reader.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(reader);
    Ok(Reached::through(Socket::from(OwnedFd::from(ours)), Box::new(proxy)))
}

/// A running command; ended when it is dropped.
struct Proxy {
    command: String,
    child: Mutex<Child>,
    /// Whether its process id may be another's by now.
    is_reaped: AtomicBool,
    /// The end of what it wrote to standard error.
    said: Arc<Mutex<VecDeque<u8>>>,
    stderr: UnixStream,
    reader: Mutex<Option<JoinHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the end of what comes until its end.
fn listen(mut stderr: UnixStream, said: &Mutex<VecDeque<u8>>) {
    let mut chunk = [0; 4096];
    loop {
        match stderr.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => {
                let mut said = lock(said);
                said.extend(chunk.iter().take(count));
                let surplus = said.len().saturating_sub(STDERR_KEPT);
                said.drain(..surplus);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

impl Proxy {
    /// Waits a moment for the command to be over, when its end of the connection is.
    fn status(&self) -> Option<ExitStatus> {
        let status = wait_for(&mut lock(&self.child), LAST_WORDS);
        self.is_reaped.fetch_or(status.is_some(), Ordering::SeqCst);
        status
    }

    /// Ends the reading once all that was written is read: whoever the command left behind may hold standard error open for ever.
    fn end_reading(&self) {
        // What is queued is read all the same.
        let _ = self.stderr.shutdown(Shutdown::Both);
        if let Some(reader) = lock(&self.reader).take() {
            // It does nothing that could panic.
            let _ = reader.join();
        }
    }

    fn last_line(&self) -> Option<String> {
        let bytes: Vec<u8> = lock(&self.said).iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
        Some(printable(line))
    }
}

impl Way for Proxy {
    fn last_words(&self) -> Option<(ErrorKind, String)> {
        let command = &self.command;
        let status = self.status()?;
        let how = match status.code() {
            // It ended because the server did.
            Some(0) => return None,
            Some(code) => format!("ended with status {code}"),
            None => "was ended by a signal".to_owned(),
        };
        self.end_reading();
        let said = self.last_line().map_or_else(String::new, |line| format!(": {line}"));
        Some((ErrorKind::Connect, format!("the ProxyCommand `{command}` {how}{said}")))
    }

    fn name(&self) -> String {
        format!("the ProxyCommand `{}`", self.command)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !self.is_reaped.load(Ordering::SeqCst)
            && let Ok(group) = i32::try_from(child.id()).map(Pid::from_raw)
        {
            // Its process id is its own until it is waited for: what it started is told too, if it ended already.
            for signal in [Signal::SIGHUP, Signal::SIGKILL] {
                // Nobody may be left.
                let _ = killpg(group, signal);
                if wait_for(child, GRACE).is_some() {
                    break;
                }
            }
        }
        self.end_reading();
    }
}

fn wait_for(child: &mut Child, grace: Duration) -> Option<ExitStatus> {
    let mut waited = Duration::ZERO;
    loop {
        match child.try_wait() {
            Ok(None) if waited < grace => {
                std::thread::sleep(SLICE);
                waited += SLICE;
            }
            Ok(status) => return status,
            Err(_) => return None,
        }
    }
}
