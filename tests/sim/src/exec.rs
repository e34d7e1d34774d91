//! Commands: a real shell in its own session, or a canned answer, and the faults of their output.

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};

use bytes::{Bytes, BytesMut};
use russh::server::{Handle, Session as Russh};
use russh::{ChannelId, Sig};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::config::{Canned, Mode, Repeated};
use crate::faults::Fault;
use crate::inbox::Inbox;
use crate::line::{Control, End};
use crate::session::Writer;
use crate::sim::Host;

/// `SSH_EXTENDED_DATA_STDERR` (RFC 4254 section 5.2).
const STDERR: u32 = 1;
const CHUNK_BYTES: usize = 32 * 1024;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The process group of a running command; none before it starts and after its shell ended.
#[derive(Debug, Default)]
pub(crate) struct Group(AtomicI32);

impl Group {
    /// Sends one of the signals that sshd passes on.
    pub(crate) fn signal(&self, signal: &Sig) {
        let signal = match signal {
            Sig::HUP => Signal::HUP,
            Sig::INT => Signal::INT,
            Sig::KILL => Signal::KILL,
            Sig::QUIT => Signal::QUIT,
            Sig::TERM => Signal::TERM,
            Sig::USR1 => Signal::USR1,
            Sig::Custom(name) if name == "USR2" => Signal::USR2,
            _ => return,
        };
        if let Some(group) = Pid::from_raw(self.0.load(Relaxed)) {
            // It may have ended in between.
            let _ = kill_process_group(group, signal);
        }
    }
}

/// How a command ended.
#[derive(Clone, Debug)]
pub(crate) enum Status {
    Code(u32),
    Signal(String),
}

/// One command on one channel.
pub(crate) struct Job {
    pub(crate) host: Arc<Host>,
    pub(crate) peer: SocketAddr,
    pub(crate) user: String,
    pub(crate) fault: Option<Fault>,
    pub(crate) id: ChannelId,
    /// `None` for a shell that reads its commands.
    pub(crate) command: Option<Vec<u8>>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) handle: Handle,
    pub(crate) writer: Writer,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) group: Arc<Group>,
    pub(crate) ended: Arc<AtomicBool>,
}

impl Job {
    /// Answers the request and starts what it asks for; the tasks end with the channel.
    ///
    /// # Errors
    /// When no process can be started; then nothing was answered.
    pub(crate) fn start(self, russh: &mut Russh, control: &Control) -> Result<Vec<AbortHandle>, io::Error> {
        let child = match (&self.host.plan.mode, &self.fault) {
            (_, Some(fault)) if replaces_output(fault) => None,
            (Mode::Shell, _) => Some(self.spawn()?),
            (Mode::Canned(_), _) => None,
        };
        self.host.tally.count(|counters| &counters.commands);
        russh.channel_success(self.id).map_err(io::Error::other)?;
        light_fuse(self.fault.as_ref(), control, false);
        if let Some(child) = child {
            return Ok(self.attach(child));
        }
        if self.fault.as_ref().is_some_and(replaces_output) {
            return Ok(vec![tokio::spawn(self.misbehave()).abort_handle()]);
        }
        let host = Arc::clone(&self.host);
        match &host.plan.mode {
            Mode::Canned(canned) if self.fits_at_once(canned, russh) => {
                self.answer_at_once(canned, russh).map(|()| Vec::new()).map_err(io::Error::other)
            }
            Mode::Canned(_) => Ok(vec![tokio::spawn(self.recite()).abort_handle()]),
            Mode::Shell => unreachable!("a shell was started above"),
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        let plan = &self.host.plan;
        let home = self.host.home()?;
        let (client, server) = (self.peer, self.host.address);
        let mut command = Command::new(&plan.shell);
        if let Some(line) = &self.command {
            command.arg("-c").arg(OsStr::from_bytes(line));
        }
        command
            .env_clear()
            .env("PATH", PATH)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .envs(plan.env.iter().map(|(name, value)| (name, value)))
            .env("HOME", home)
            .env("USER", &self.user)
            .env("LOGNAME", &self.user)
            .env("SHELL", &plan.shell)
            .env("SSH_CLIENT", format!("{} {} {}", client.ip(), client.port(), server.port()))
            .env("SSH_CONNECTION", format!("{} {} {} {}", client.ip(), client.port(), server.ip(), server.port()))
            .current_dir(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // SAFETY: setsid is async-signal-safe, and nothing else happens between fork and exec.
        unsafe {
            command.pre_exec(|| rustix::process::setsid().map(drop).map_err(io::Error::from));
        }
        command.spawn()
    }

    /// Connects the channel with the command.
    fn attach(self, mut child: Child) -> Vec<AbortHandle> {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        self.group.0.store(pid.unwrap_or(0), Relaxed);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (report, status) = oneshot::channel();
        let live = self.host.tally.hold(|counters| &counters.live);
        let group = Arc::clone(&self.group);
        // Not aborted with the channel: the command outlives it.
        tokio::spawn(async move {
            let status = child.wait().await;
            group.0.store(0, Relaxed);
            drop(live);
            // The channel may be gone.
            let _ = report.send(status);
        });
        let feeding = feed(stdin, Arc::clone(&self.inbox));
        let outlet = async move {
            let output = async {
                tokio::join!(pump(stdout, &self.writer, None), pump(stderr, &self.writer, Some(STDERR)));
            };
            tokio::pin!(output);
            // As sshd does: the status goes out when the shell has ended, even while others hold its pipes.
            let mut status = status;
            let reported = tokio::select! {
                reported = &mut status => {
                    self.report(reported).await;
                    output.await;
                    return self.finish().await;
                }
                () = &mut output => status.await,
            };
            self.report(reported).await;
            self.finish().await;
        };
        vec![tokio::spawn(feeding).abort_handle(), tokio::spawn(outlet).abort_handle()]
    }

    async fn report<E>(&self, reported: Result<io::Result<std::process::ExitStatus>, E>) {
        let status = match reported {
            Ok(Ok(status)) => status,
            _ => return,
        };
        let status = match (status.code(), status.signal()) {
            (Some(code), _) => Status::Code(code as u32),
            (None, Some(signal)) => Status::Signal(signal_name(signal)),
            (None, None) => return,
        };
        self.send_status(status).await;
    }

    async fn send_status(&self, status: Status) {
        send_status(&self.handle, self.id, self.fault.as_ref(), status).await;
    }

    async fn finish(&self) {
        finish(&self.writer, &self.ended).await;
    }

    /// Whether the whole answer fits into one packet and the window: then it costs no task.
    fn fits_at_once(&self, canned: &Canned, russh: &Russh) -> bool {
        let bytes = canned.stdout.len() + canned.stderr.len();
        self.fault.is_none()
            && canned.delay.is_none()
            && bytes <= CHUNK_BYTES as u64
            && bytes <= u64::from(russh.writable_packet_size(&self.id))
    }

    fn answer_at_once(&self, canned: &Canned, russh: &mut Russh) -> Result<(), russh::Error> {
        if !canned.stdout.is_empty() {
            russh.data(self.id, whole(&canned.stdout))?;
        }
        if !canned.stderr.is_empty() {
            russh.extended_data(self.id, STDERR, whole(&canned.stderr))?;
        }
        russh.exit_status_request(self.id, canned.exit)?;
        russh.eof(self.id)?;
        russh.close(self.id)?;
        self.ended.store(true, Relaxed);
        Ok(())
    }

    async fn recite(self) {
        let host = Arc::clone(&self.host);
        let Mode::Canned(canned) = &host.plan.mode else {
            return;
        };
        if let Some(delay) = canned.delay {
            tokio::time::sleep(delay).await;
        }
        repeat(&canned.stdout, &self.writer, None).await;
        repeat(&canned.stderr, &self.writer, Some(STDERR)).await;
        self.send_status(Status::Code(canned.exit)).await;
        self.finish().await;
    }

    /// Output that is the fault itself. None of these ends.
    async fn misbehave(self) {
        if self.fault == Some(Fault::StallOutput) {
            let text = Bytes::from_static(b"the first line\nhalf of the sec");
            let _ = self.writer.data_bytes(text).await;
            return std::future::pending().await;
        }
        let line: &[u8] = b"endless output of a simulated host, one line of 64 bytes each..\n";
        let chunk = Bytes::from(line.repeat(CHUNK_BYTES / 64));
        while self.writer.data_bytes(chunk.clone()).await.is_ok() {}
    }
}

/// Lets the connection end after some bytes, where that is the fault.
pub(crate) fn light_fuse(fault: Option<&Fault>, control: &Control, both_ways: bool) {
    match fault {
        Some(Fault::CutOutput { after_bytes }) => control.end_after(*after_bytes, both_ways, End::Cut),
        Some(Fault::ResetOutput { after_bytes }) => control.end_after(*after_bytes, both_ways, End::Reset),
        Some(Fault::FreezeOutput { after_bytes }) => control.end_after(*after_bytes, both_ways, End::Freeze),
        _ => {}
    }
}

fn replaces_output(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::StallOutput
            | Fault::EndlessOutput
            | Fault::CutOutput { .. }
            | Fault::ResetOutput { .. }
            | Fault::FreezeOutput { .. }
    )
}

/// Says how a command or subsystem ended, unless the fault is that this is not said, or something else.
pub(crate) async fn send_status(handle: &Handle, id: ChannelId, fault: Option<&Fault>, status: Status) {
    let status = match fault {
        Some(Fault::NoExitStatus) => return,
        Some(Fault::ExitSignal { name }) => Status::Signal(name.clone()),
        _ => status,
    };
    // An error means that the connection is gone.
    let _ = match status {
        Status::Code(code) => handle.exit_status_request(id, code).await,
        Status::Signal(name) => {
            handle.exit_signal_request(id, Sig::Custom(name), false, String::new(), String::new()).await
        }
    };
}

/// Ends the channel: end of file, then close.
pub(crate) async fn finish(writer: &Writer, ended: &AtomicBool) {
    // An error means that the connection is gone.
    let _ = writer.eof().await;
    let _ = writer.close().await;
    ended.store(true, Relaxed);
}

/// Standard input, until its end or until the command reads no more.
async fn feed(stdin: Option<ChildStdin>, inbox: Arc<Inbox>) {
    if let Some(mut stdin) = stdin {
        while let Some(bytes) = inbox.next().await {
            if stdin.write_all(&bytes).await.is_err() {
                break;
            }
        }
    }
    inbox.abandon();
}

/// Passes one stream on, as fast as the client's window allows.
async fn pump(stream: Option<impl AsyncRead + Unpin>, writer: &Writer, ext: Option<u32>) {
    let Some(mut stream) = stream else { return };
    let mut buf = BytesMut::new();
    loop {
        buf.reserve(CHUNK_BYTES);
        match stream.read_buf(&mut buf).await {
            Ok(n) if n > 0 => {}
            _ => return,
        }
        if !send(writer, ext, buf.split().freeze()).await {
            return;
        }
    }
}

async fn send(writer: &Writer, ext: Option<u32>, bytes: Bytes) -> bool {
    match ext {
        None => writer.data_bytes(bytes).await.is_ok(),
        Some(ext) => writer.extended_data_bytes(ext, bytes).await.is_ok(),
    }
}

fn whole(text: &Repeated) -> Bytes {
    Bytes::from(text.bytes.repeat(text.times as usize))
}

/// Sends repeated bytes in pieces of about 32 KiB.
async fn repeat(text: &Repeated, writer: &Writer, ext: Option<u32>) {
    if text.is_empty() {
        return;
    }
    let each = (CHUNK_BYTES / text.bytes.len()).max(1);
    let piece = Bytes::from(text.bytes.repeat(each.min(text.times as usize)));
    let mut left = text.times;
    while left > 0 {
        let now = left.min(each as u64);
        let bytes = piece.slice(..text.bytes.len() * now as usize);
        if !send(writer, ext, bytes).await {
            return;
        }
        left -= now;
    }
}

/// The names of RFC 4254 section 6.10, and what sshd says for others.
fn signal_name(number: i32) -> String {
    let names = [
        (Signal::ABORT, "ABRT"),
        (Signal::ALARM, "ALRM"),
        (Signal::FPE, "FPE"),
        (Signal::HUP, "HUP"),
        (Signal::ILL, "ILL"),
        (Signal::INT, "INT"),
        (Signal::KILL, "KILL"),
        (Signal::PIPE, "PIPE"),
        (Signal::QUIT, "QUIT"),
        (Signal::SEGV, "SEGV"),
        (Signal::TERM, "TERM"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ];
    names.iter().find(|(signal, _)| signal.as_raw() == number).map_or("SIG@openssh.com", |(_, name)| name).to_owned()
}
