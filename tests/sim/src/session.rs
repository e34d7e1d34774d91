//! One SSH connection as sshd would serve it: logins, channels and their requests.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use russh::keys::ssh_key::PublicKey;
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session as Russh, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Pty, Sig};
use tokio::task::AbortHandle;

use crate::accounts::Login;
use crate::exec::{self, Group, Job};
use crate::faults::Fault;
use crate::forward;
use crate::inbox::Inbox;
use crate::line::Control;
use crate::sftp;
use crate::sim::Host;
use crate::stats::Held;

/// Where a channel's task writes to.
pub(crate) type Writer = Arc<ChannelWriteHalf<Msg>>;

/// An open channel. Dropping it closes what its command reads from and writes to, and leaves the command alone.
struct Opened {
    writer: Writer,
    inbox: Arc<Inbox>,
    env: Vec<(String, String)>,
    group: Arc<Group>,
    is_session: bool,
    started: bool,
    ended: Arc<AtomicBool>,
    tasks: Vec<AbortHandle>,
}

impl Opened {
    fn new(channel: Channel<Msg>, is_session: bool) -> Self {
        // The read half is dropped: see `Inbox` for why.
        let (_, writer) = channel.split();
        Self {
            writer: Arc::new(writer),
            inbox: Arc::default(),
            env: Vec::new(),
            group: Arc::default(),
            is_session,
            started: false,
            ended: Arc::default(),
            tasks: Vec::new(),
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.inbox.abandon();
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The handler of one connection.
pub(crate) struct Session {
    host: Arc<Host>,
    control: Arc<Control>,
    peer: SocketAddr,
    fault: Option<Fault>,
    waiting: Option<Held>,
    login: Login,
    channels: HashMap<ChannelId, Opened>,
    unanswered: Vec<ChannelOpenHandle>,
}

impl Session {
    pub(crate) fn new(
        host: Arc<Host>,
        control: Arc<Control>,
        peer: SocketAddr,
        fault: Option<Fault>,
        waiting: Held,
    ) -> Self {
        let login = Login::new(host.tally.clone());
        Self {
            host,
            control,
            peer,
            fault,
            waiting: Some(waiting),
            login,
            channels: HashMap::new(),
            unanswered: Vec::new(),
        }
    }

    async fn stall_login(&self) -> Result<(), russh::Error> {
        if self.fault == Some(Fault::StallLogin) {
            self.control.peer_gone().await;
            return Err(russh::Error::Disconnect);
        }
        Ok(())
    }

    /// The channel of a first `exec`, `shell` or `subsystem` request; it takes no second one.
    fn begin(&mut self, id: ChannelId) -> Option<&mut Opened> {
        let opened = self.channels.get_mut(&id).filter(|opened| opened.is_session && !opened.started)?;
        opened.started = true;
        Some(opened)
    }

    fn run(&mut self, id: ChannelId, command: Option<&[u8]>, russh: &mut Russh) -> Result<(), russh::Error> {
        let (host, peer, fault) = (Arc::clone(&self.host), self.peer, self.fault.clone());
        let user = self.login.user().to_owned();
        let control = Arc::clone(&self.control);
        let opened = match self.begin(id) {
            Some(opened) if fault != Some(Fault::RefuseExec) => opened,
            _ => return russh.channel_failure(id),
        };
        let job = Job {
            host,
            peer,
            user,
            fault,
            id,
            command: command.map(<[u8]>::to_vec),
            env: std::mem::take(&mut opened.env),
            handle: russh.handle(),
            writer: Arc::clone(&opened.writer),
            inbox: Arc::clone(&opened.inbox),
            group: Arc::clone(&opened.group),
            ended: Arc::clone(&opened.ended),
        };
        match job.start(russh, &control) {
            Ok(tasks) => opened.tasks = tasks,
            Err(_) => russh.channel_failure(id)?,
        }
        Ok(())
    }
}

impl Handler for Session {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        Ok(self.host.plan.banner.clone())
    }

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Self::Error> {
        self.stall_login().await?;
        Ok(self.login.none(&self.host.accounts, user))
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        self.stall_login().await?;
        Ok(self.login.password(&self.host.accounts, user, password))
    }

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        self.stall_login().await?;
        let key: &PublicKey = offer.public_key;
        Ok(self.login.offered(&self.host.accounts, user, key))
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(self.login.key(&self.host.accounts, user, key.public_key))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        self.stall_login().await?;
        let answers: Option<Vec<_>> = response.map(Iterator::collect);
        Ok(self.login.keyboard(&self.host.accounts, user, answers.as_deref()))
    }

    async fn auth_succeeded(&mut self, _russh: &mut Russh) -> Result<(), Self::Error> {
        self.waiting = None;
        self.host.tally.count(|counters| &counters.logins);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _russh: &mut Russh,
    ) -> Result<(), Self::Error> {
        self.channels.retain(|_, opened| !opened.ended.load(Relaxed));
        let sessions = self.channels.values().filter(|one| one.is_session).count();
        match self.fault {
            Some(Fault::StallChannel) => self.unanswered.push(reply),
            Some(Fault::RefuseChannel) => {
                reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            }
            // What sshd answers beyond MaxSessions.
            _ if sessions >= self.host.plan.max_sessions => {
                reply.reject(ChannelOpenFailure::ConnectFailed).await;
            }
            _ => {
                self.channels.insert(channel.id(), Opened::new(channel, true));
                reply.accept().await;
            }
        }
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _russh: &mut Russh,
    ) -> Result<(), Self::Error> {
        let target = match forward::target(host, port) {
            Some(target) if self.host.plan.forwarding => target,
            _ => {
                reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
                return Ok(());
            }
        };
        let id = channel.id();
        let mut opened = Opened::new(channel, false);
        let relay = forward::relay(
            target,
            reply,
            Arc::clone(&opened.writer),
            Arc::clone(&opened.inbox),
            Arc::clone(&opened.ended),
        );
        opened.tasks = vec![tokio::spawn(relay).abort_handle()];
        self.channels.insert(id, opened);
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _russh: &mut Russh) -> Result<(), Self::Error> {
        self.channels.remove(&id);
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _russh: &mut Russh) -> Result<(), Self::Error> {
        if let Some(opened) = self.channels.get(&id) {
            opened.inbox.finish();
            if self.fault == Some(Fault::HangUpAtEof) {
                opened.group.signal(&Sig::HUP);
            }
        }
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _russh: &mut Russh) -> Result<(), Self::Error> {
        if let Some(opened) = self.channels.get(&id) {
            opened.inbox.push(data).await;
        }
        Ok(())
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        russh: &mut Russh,
    ) -> Result<(), Self::Error> {
        let accepted = name == "LANG" || name.starts_with("LC_");
        match self.channels.get_mut(&id) {
            Some(opened) if accepted => {
                opened.env.push((name.to_owned(), value.to_owned()));
                russh.channel_success(id)
            }
            _ => russh.channel_failure(id),
        }
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        russh: &mut Russh,
    ) -> Result<(), Self::Error> {
        if self.fault == Some(Fault::HangUpAtEof) {
            return russh.channel_success(id);
        }
        russh.channel_failure(id)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        russh: &mut Russh,
    ) -> Result<(), Self::Error> {
        russh.channel_failure(id)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        russh: &mut Russh,
    ) -> Result<(), Self::Error> {
        russh.channel_failure(id)
    }

    async fn exec_request(&mut self, id: ChannelId, command: &[u8], russh: &mut Russh) -> Result<(), Self::Error> {
        self.run(id, Some(command), russh)
    }

    async fn shell_request(&mut self, id: ChannelId, russh: &mut Russh) -> Result<(), Self::Error> {
        self.run(id, None, russh)
    }

    async fn subsystem_request(&mut self, id: ChannelId, name: &str, russh: &mut Russh) -> Result<(), Self::Error> {
        let (host, fault) = (Arc::clone(&self.host), self.fault.clone());
        let control = Arc::clone(&self.control);
        let opened = match self.begin(id) {
            Some(opened) if name == "sftp" && fault != Some(Fault::RefuseSubsystem) => opened,
            _ => return russh.channel_failure(id),
        };
        exec::light_fuse(fault.as_ref(), &control, true);
        host.tally.count(|counters| &counters.sftp);
        russh.channel_success(id)?;
        let (writer, inbox) = (Arc::clone(&opened.writer), Arc::clone(&opened.inbox));
        let ended = Arc::clone(&opened.ended);
        let handle = russh.handle();
        let task = tokio::spawn(async move {
            sftp::serve(&host, fault.as_ref(), &writer, &inbox).await;
            exec::send_status(&handle, id, fault.as_ref(), exec::Status::Code(0)).await;
            exec::finish(&writer, &ended).await;
        });
        opened.tasks = vec![task.abort_handle()];
        Ok(())
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _russh: &mut Russh) -> Result<(), Self::Error> {
        if let Some(opened) = self.channels.get(&id) {
            self.host.tally.count(|counters| &counters.signals);
            opened.group.signal(&signal);
        }
        Ok(())
    }
}
