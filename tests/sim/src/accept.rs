//! Connections of a host: counted, refused, broken, or handed to the SSH server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use crate::delay::Delayed;
use crate::faults::Fault;
use crate::line::{Control, End, Line};
use crate::raw;
use crate::session::Session;
use crate::sim::Host;
use crate::stats::Held;

/// Accepts connections for as long as the simulator lives.
pub(crate) async fn serve(host: Arc<Host>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((tcp, peer)) => admit(&host, tcp, peer),
            // No file descriptors left: others will be closed.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Counts in the accepting task, so that limits are exact.
fn admit(host: &Arc<Host>, tcp: TcpStream, peer: SocketAddr) {
    host.tally.count(|counters| &counters.connections);
    // It fails when the client is gone already.
    let _ = tcp.set_nodelay(true);
    let (line, control) = Line::new(tcp);
    let full = host.plan.max_startups.is_some_and(|limit| host.tally.host.unauthenticated.now() >= limit as u64);
    if full {
        host.tally.count(|counters| &counters.startups_refused);
        let refusal = async move {
            let _ = raw::say_and_close(line, b"Exceeded MaxStartups\r\n").await;
        };
        tokio::spawn(refusal);
        return;
    }
    host.remember(&control);
    let connection = Connection {
        host: Arc::clone(host),
        control,
        peer,
        fault: host.fault(),
        waiting: host.tally.hold(|counters| &counters.unauthenticated),
    };
    let open = host.tally.hold(|counters| &counters.open);
    tokio::spawn(async move {
        // How a client leaves is its own affair.
        let _ = connection.run(line).await;
        drop(open);
    });
}

/// An accepted connection.
struct Connection {
    host: Arc<Host>,
    control: Arc<Control>,
    peer: SocketAddr,
    fault: Option<Fault>,
    waiting: Held,
}

impl Connection {
    async fn run(self, mut line: Line) -> io::Result<()> {
        match &self.fault {
            Some(Fault::Silent) => return raw::swallow(&mut line).await,
            Some(Fault::GarbageBanner) => {
                return raw::say_and_close(line, b"220 mail.example.com ESMTP\r\n500 what?\r\n").await;
            }
            Some(Fault::EndlessBanner { newline }) => return raw::endless(line, *newline).await,
            Some(Fault::StallKex { kexinit }) => return raw::stall_kex(line, *kexinit).await,
            Some(Fault::CutBeforeLogin { times }) if self.host.cuts.fetch_add(1, Relaxed) < *times => {
                self.control.end(End::Cut);
                return Ok(());
            }
            Some(Fault::SlowBanner { delay }) => {
                tokio::select! {
                    () = tokio::time::sleep(*delay) => {}
                    () = self.control.peer_gone() => return Ok(()),
                }
            }
            _ => {}
        }
        match self.host.plan.rtt {
            None => self.speak(line).await,
            Some(rtt) => {
                // The kernel connects loopback at once; on a link, the client waits one round trip for that, and the
                // server learns of it half a round trip later.
                tokio::time::sleep(rtt + rtt / 2).await;
                self.speak(Delayed::new(line, rtt / 2)).await
            }
        }
    }

    async fn speak(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> io::Result<()> {
        let config = match self.fault {
            Some(Fault::WrongHostKey) => self.host.wrong_config()?,
            _ => Arc::clone(&self.host.config),
        };
        let session = Session::new(self.host, self.control, self.peer, self.fault, self.waiting);
        russh::server::run_stream(config, stream, session)
            .await
            .map_err(io::Error::other)?
            .await
            .map_err(io::Error::other)
    }
}
