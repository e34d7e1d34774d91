//! `direct-tcpip` channels, so that a simulated host can be a jump host.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::BytesMut;
use russh::ChannelOpenFailure;
use russh::server::ChannelOpenHandle;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::inbox::Inbox;
use crate::session::Writer;

/// The address to connect to, if it is a loopback address: the simulator never leaves the machine.
pub(crate) fn target(host: &str, port: u32) -> Option<SocketAddr> {
    let ip: IpAddr = match host {
        "localhost" => IpAddr::from([127, 0, 0, 1]),
        literal => literal.parse().ok()?,
    };
    let port = u16::try_from(port).ok()?;
    ip.is_loopback().then(|| SocketAddr::new(ip, port))
}

/// Connects, answers the request, and passes bytes on until both sides are done.
pub(crate) async fn relay(
    target: SocketAddr,
    reply: ChannelOpenHandle,
    writer: Writer,
    inbox: Arc<Inbox>,
    ended: Arc<AtomicBool>,
) {
    let tcp = match TcpStream::connect(target).await {
        Ok(tcp) => tcp,
        Err(_) => {
            ended.store(true, Relaxed);
            return reply.reject(ChannelOpenFailure::ConnectFailed).await;
        }
    };
    reply.accept().await;
    // It fails when the target is gone already, which the next read shows.
    let _ = tcp.set_nodelay(true);
    let (mut from, mut to) = tcp.into_split();
    let outward = async {
        while let Some(bytes) = inbox.next().await {
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    };
    let inward = async {
        let mut buf = BytesMut::new();
        loop {
            buf.reserve(32 * 1024);
            match from.read_buf(&mut buf).await {
                Ok(n) if n > 0 => {}
                _ => break,
            }
            if writer.data_bytes(buf.split().freeze()).await.is_err() {
                break;
            }
        }
        let _ = writer.eof().await;
    };
    tokio::join!(outward, inward);
    let _ = writer.close().await;
    ended.store(true, Relaxed);
}
