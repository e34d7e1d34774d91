//! Faults before SSH begins: bytes on the bare connection.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::line::Line;

/// The version that the simulator announces.
pub(crate) const VERSION: &str = "SSH-2.0-FleetSim_0.1";

/// Says something and closes, so that the client can read it even when it spoke first.
pub(crate) async fn say_and_close(mut line: Line, text: &[u8]) -> io::Result<()> {
    line.write_all(text).await?;
    line.shutdown().await?;
    swallow(&mut line).await
}

/// Reads until the client closes.
pub(crate) async fn swallow(line: &mut Line) -> io::Result<()> {
    let mut chunk = [0; 4096];
    while line.read(&mut chunk).await? > 0 {}
    Ok(())
}

/// Sends lines, or one line, without end.
pub(crate) async fn endless(mut line: Line, newline: bool) -> io::Result<()> {
    let text: &[u8] = if newline { b"this is not the banner yet\r\n" } else { b"this is not the banner yet, " };
    let chunk = text.repeat(512);
    loop {
        line.write_all(&chunk).await?;
    }
}

/// Sends the banner, perhaps the key exchange proposal, and nothing more.
pub(crate) async fn stall_kex(mut line: Line, kexinit: bool) -> io::Result<()> {
    line.write_all(format!("{VERSION}\r\n").as_bytes()).await?;
    if kexinit {
        line.write_all(&kexinit_packet()).await?;
    }
    swallow(&mut line).await
}

/// An `SSH_MSG_KEXINIT` (RFC 4253 section 7.1) in an unencrypted packet (section 6).
fn kexinit_packet() -> Vec<u8> {
    let lists = [
        "curve25519-sha256,ecdh-sha2-nistp256",
        "ssh-ed25519",
        "aes256-ctr,aes128-ctr",
        "aes256-ctr,aes128-ctr",
        "hmac-sha2-256",
        "hmac-sha2-256",
        "none",
        "none",
        "",
        "",
    ];
    let mut payload = vec![20];
    payload.extend([0x5a; 16]);
    for list in lists {
        payload.extend((list.len() as u32).to_be_bytes());
        payload.extend(list.as_bytes());
    }
    payload.extend([0; 5]);
    let padding = 4 + (8 - (payload.len() + 9) % 8) % 8;
    let mut packet = ((payload.len() + padding + 1) as u32).to_be_bytes().to_vec();
    packet.push(padding as u8);
    packet.extend(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_a_multiple_of_eight_with_enough_padding() {
        let packet = kexinit_packet();
        assert_eq!(packet.len() % 8, 0);
        assert!(packet[4] >= 4);
    }
}
