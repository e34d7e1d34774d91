//! Listening sockets: one loopback address per host, one port for all.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

const BACKLOG: i32 = 4096;
const ATTEMPTS: usize = 50;

/// Binds `count` listeners on consecutive addresses of a random block of 127.0.0.0/8, all on one port that the system chose.
///
/// Must be followed by handing them to a runtime: they are non-blocking.
pub(crate) fn bind(count: usize) -> io::Result<Vec<TcpListener>> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..ATTEMPTS {
        match bind_block(random_base(count), count) {
            Ok(listeners) => return Ok(listeners),
            Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
                last = error;
            }
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// An address from 127.44.0.1 upwards with room for the block before 127.255.0.0.
fn random_base(count: usize) -> u32 {
    let first = u32::from(Ipv4Addr::new(127, 44, 0, 0));
    let end = u32::from(Ipv4Addr::new(127, 255, 0, 0));
    let blocks = (end - first).saturating_sub(count as u32) >> 8;
    first + (rand::random_range(0..blocks.max(1)) << 8) + 1
}

fn bind_block(base: u32, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::with_capacity(count);
    let mut port = 0;
    for address in (base..).take(count) {
        let listener = listen(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(address), port)))?;
        port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(listeners)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Raises the limit of open files to what the system allows.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where it is refused, the present limit may still do.
    let _ = setrlimit(Resource::Nofile, raised);
}
