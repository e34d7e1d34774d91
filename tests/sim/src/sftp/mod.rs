//! The `sftp` subsystem, as OpenSSH's sftp-server answers: version 3 with its extensions.

mod evil;
mod files;
mod server;
mod wire;

use bytes::{Buf as _, Bytes, BytesMut};

use crate::faults::Fault;
use crate::inbox::Inbox;
use crate::session::Writer;
use crate::sim::Host;

use server::Server;

/// sftp-server ends at larger messages than 256 KiB; headers go on top.
const MAX_PACKET_BYTES: usize = (256 << 10) + 1024;

/// Answers requests until the client ends its side or sends nonsense.
pub(crate) async fn serve(host: &Host, fault: Option<Fault>, writer: &Writer, inbox: &Inbox) {
    let Ok(mut server) = Server::new(host, fault.as_ref()) else {
        return;
    };
    let mut answers_left = match fault {
        Some(Fault::StallSftp { after_requests }) => Some(after_requests.saturating_add(1)),
        _ => None,
    };
    let mut buf = BytesMut::new();
    while let Some(bytes) = inbox.next().await {
        buf.extend_from_slice(&bytes);
        loop {
            let packet = match next_packet(&mut buf) {
                Ok(Some(packet)) => packet,
                Ok(None) => break,
                Err(TooLong) => return,
            };
            if let Some(left) = &mut answers_left {
                if *left == 0 {
                    return std::future::pending().await;
                }
                *left -= 1;
            }
            let reply = server.answer(&packet);
            if writer.data_bytes(reply).await.is_err() {
                return;
            }
        }
    }
}

struct TooLong;

/// Takes one whole packet, without its length.
fn next_packet(buf: &mut BytesMut) -> Result<Option<Bytes>, TooLong> {
    let Some(len) = buf.first_chunk::<4>() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes(*len) as usize;
    if len > MAX_PACKET_BYTES {
        return Err(TooLong);
    }
    if buf.len() < 4 + len {
        return Ok(None);
    }
    buf.advance(4);
    Ok(Some(buf.split_to(len).freeze()))
}
