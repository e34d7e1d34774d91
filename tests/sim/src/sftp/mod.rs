//! The `sftp` subsystem, as OpenSSH's sftp-server answers: version 3 with its extensions.

mod evil;
mod files;
mod server;
mod wire;

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};

use crate::faults::Fault;
use crate::inbox::Inbox;
use crate::session::Writer;
use crate::sim::Host;

use server::Server;
use wire::{Code, Packet};

/// sftp-server ends at larger messages than 256 KiB; headers go on top.
const MAX_PACKET_BYTES: usize = (256 << 10) + 1024;

/// How long a read takes in a file that never ends: what is fetched of it stays small.
const ENDLESS_READ: Duration = Duration::from_millis(4);

/// How many answers to nothing are sent at once.
const FLOOD: usize = 1000;

/// Answers requests until the client ends its side or sends nonsense, or the fault ends the server.
pub(crate) async fn serve(host: &Host, fault: Option<&Fault>, writer: &Writer, inbox: &Inbox) {
    let Ok(mut server) = Server::new(host, fault) else {
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
            let kind = packet.first().copied();
            if kind == Some(wire::READ) && fault == Some(&Fault::EndlessOutput) {
                tokio::time::sleep(ENDLESS_READ).await;
            }
            let reply = server.answer(&packet);
            if writer.data_bytes(reply).await.is_err() {
                return;
            }
            match (kind, fault) {
                (Some(wire::READ | wire::WRITE), Some(Fault::StallOutput)) => return std::future::pending().await,
                (Some(wire::READ | wire::WRITE), Some(Fault::NoExitStatus | Fault::ExitSignal { .. })) => return,
                (Some(wire::WRITE), Some(Fault::EndlessOutput)) => return flood(writer).await,
                _ => {}
            }
        }
    }
}

/// Sends answers to requests that nobody made, for as long as somebody takes them.
async fn flood(writer: &Writer) {
    let answers: Vec<u8> =
        (0..FLOOD as u32).flat_map(|number| Packet::status(u32::MAX - number, Code::Ok).finish()).collect();
    let answers = Bytes::from(answers);
    while writer.data_bytes(answers.clone()).await.is_ok() {}
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
