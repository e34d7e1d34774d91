//! Opening a TCP connection: several addresses raced, options set.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::wait::poll_timeout;
use crate::budget::{Budget, Stop};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::event::Note;
use crate::transport::Watch;

/// How long one address has before the next is tried beside it (RFC 8305 section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How long sent bytes may stay unacknowledged before the kernel gives the connection up.
const USER_TIMEOUT: Duration = Duration::from_secs(45);

/// How long a stop may go unnoticed when it has no descriptor to wake the wait.
const BLIND_WAIT: Duration = Duration::from_millis(100);

/// How long after one attempt the next is made (sshconnect.c: ssh_connect_direct).
const NEXT_ATTEMPT: Duration = Duration::from_secs(1);

/// Connects to the first address that answers, from one of the addresses of this machine if there are any; up to so many
/// times, as `ConnectionAttempts` says, and within the budget.
///
/// # Errors
/// As [`dial`], of the last attempt.
pub(super) fn dial_again(
    addresses: &[SocketAddr],
    from: &[SocketAddr],
    attempts: u32,
    watch: &dyn Watch,
    budget: &Budget,
) -> Result<Socket> {
    let mut attempt = 1;
    loop {
        let error = match dial(addresses, from, budget) {
            Ok(socket) => return Ok(socket),
            Err(error) => error,
        };
        let is_theirs = matches!(error.kind(), ErrorKind::Connect | ErrorKind::Disconnected | ErrorKind::Timeout);
        let is_over = budget.exceeded().is_some() || budget.remaining().is_some_and(|left| left <= NEXT_ATTEMPT);
        if !is_theirs || attempt >= attempts || is_over {
            return Err(error);
        }
        watch.note(Note::Retrying { attempt, error: error.clone(), delay: NEXT_ATTEMPT });
        // A stop of any kind ends it: a host that is not reached yet is not waited for.
        if budget.cancel_token().wait(Stop::Drain, Instant::now().checked_add(NEXT_ATTEMPT)).is_some() {
            budget.check(Phase::Connect)?;
            return Err(error);
        }
        attempt += 1;
    }
}

/// Connects to the first address that answers.
///
/// # Errors
/// `Connect` when all of them refused; `LocalLimit` when this machine could not try; `Usage` when it has no address to
/// connect from; else what ended the budget.
fn dial(addresses: &[SocketAddr], from: &[SocketAddr], budget: &Budget) -> Result<Socket> {
    let mut waiting = addresses.iter();
    let mut attempts: Vec<(Socket, SocketAddr)> = Vec::new();
    let mut next_at = Instant::now();
    let mut last_error = None;
    loop {
        budget.check(Phase::Connect)?;
        let is_time = attempts.is_empty() || Instant::now() >= next_at;
        if is_time && let Some(address) = waiting.next() {
            next_at = Instant::now() + ATTEMPT_DELAY;
            let source = match from.iter().find(|source| source.is_ipv4() == address.is_ipv4()) {
                None if !from.is_empty() => {
                    last_error.get_or_insert_with(|| cannot_bind(from, *address, "it is of another address family"));
                    continue;
                }
                source => source,
            };
            let socket = open(*address, source)?;
            match begin(socket, *address) {
                Ok((socket, true)) => return ready(socket, *address),
                Ok((socket, false)) => attempts.push((socket, *address)),
                Err(cause) if is_local_limit(&cause) => return Err(failed(*address, &cause)),
                Err(cause) => {
                    last_error = Some(failed(*address, &cause));
                    continue;
                }
            }
        }
        if attempts.is_empty() && waiting.len() == 0 {
            let nowhere = || Error::new(ErrorKind::Resolve, "no address to connect to").in_phase(Phase::Resolve);
            return Err(last_error.unwrap_or_else(nowhere));
        }
        let until_next = (waiting.len() > 0).then(|| next_at.saturating_duration_since(Instant::now()));
        poll_attempts(&attempts, until_next, budget)?;
        let mut index = 0;
        while let Some((socket, address)) = attempts.get(index) {
            match state(socket) {
                Ok(false) => index += 1,
                Ok(true) => {
                    let address = *address;
                    return ready(attempts.swap_remove(index).0, address);
                }
                Err(cause) => {
                    last_error = Some(failed(*address, &cause));
                    attempts.remove(index);
                    // A refusal is an answer: the next address need not wait.
                    next_at = Instant::now();
                }
            }
        }
    }
}

/// Makes a socket, bound to an address of this machine where one is wanted.
fn open(address: SocketAddr, source: Option<&SocketAddr>) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))
        .map_err(|cause| failed(address, &cause))?;
    let Some(source) = source else { return Ok(socket) };
    socket.bind(&(*source).into()).map_err(|cause| match cause.raw_os_error() {
        // No port is free: that is no fault of the address.
        Some(libc::EADDRINUSE) => failed(address, &io::Error::from_raw_os_error(libc::EADDRNOTAVAIL)),
        _ if cause.raw_os_error() != Some(libc::EADDRNOTAVAIL) && is_local_limit(&cause) => failed(address, &cause),
        _ => cannot_bind(std::slice::from_ref(source), address, &plain(&cause)),
    })?;
    Ok(socket)
}

fn cannot_bind(from: &[SocketAddr], address: SocketAddr, why: &str) -> Error {
    let from: Vec<_> = from.iter().map(|source| source.ip().to_string()).collect();
    let what = format!("cannot connect to {address} from {}: {why}", from.join(", "));
    Error::new(ErrorKind::Usage, what).in_phase(Phase::Connect)
}

fn begin(socket: Socket, address: SocketAddr) -> io::Result<(Socket, bool)> {
    match socket.connect(&address.into()) {
        Ok(()) => Ok((socket, true)),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok((socket, false)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok((socket, false)),
        Err(error) => Err(error),
    }
}

fn poll_attempts(attempts: &[(Socket, SocketAddr)], until_next: Option<Duration>, budget: &Budget) -> Result<()> {
    let wake = budget.cancel_token().wake_fds();
    let mut fds: Vec<_> = attempts.iter().map(|(socket, _)| PollFd::new(socket.as_fd(), PollFlags::POLLOUT)).collect();
    fds.extend(wake.as_slice().iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)));
    let blind = (!wake.is_complete()).then_some(BLIND_WAIT);
    let timeout = [budget.remaining(), until_next, blind].into_iter().flatten().min().unwrap_or(Duration::MAX);
    match poll(&mut fds, poll_timeout(timeout)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => {
            Err(Error::new(ErrorKind::LocalLimit, "cannot wait on a socket").caused_by(errno).in_phase(Phase::Connect))
        }
    }
}

/// Tells whether an attempt has succeeded (`true`) or is still under way.
fn state(socket: &Socket) -> io::Result<bool> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

fn ready(socket: Socket, address: SocketAddr) -> Result<Socket> {
    set_options(&socket).map_err(|cause| failed(address, &cause))?;
    Ok(socket)
}

fn set_options(socket: &Socket) -> io::Result<()> {
    // Without it the handshake waits 2.6 round trips longer (LIBSSH2.md section 0).
    socket.set_tcp_nodelay(true)?;
    let socket = SockRef::from(socket);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(15)),
    )?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

fn is_local_limit(error: &io::Error) -> bool {
    use libc::{EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS, ENOMEM};
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM | EADDRNOTAVAIL))
}

fn failed(address: SocketAddr, cause: &io::Error) -> Error {
    let kind = match cause.kind() {
        _ if is_local_limit(cause) => ErrorKind::LocalLimit,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            ErrorKind::Disconnected
        }
        io::ErrorKind::TimedOut => ErrorKind::Timeout,
        _ => ErrorKind::Connect,
    };
    let text = plain(cause);
    Error::new(kind, format!("cannot connect to {address}: {text}")).in_phase(Phase::Connect)
}

/// The system's words without Rust's `(os error N)`.
fn plain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => nix::errno::Errno::from_raw(code).desc().to_lowercase(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::CancelToken;
    use std::net::{Ipv4Addr, TcpListener};

    fn closed_port() -> SocketAddr {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
    }

    #[test]
    fn a_refused_address_is_passed_over() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let open = listener.local_addr().unwrap();
        let budget = Budget::new(CancelToken::new()).limited(Duration::from_secs(5));
        let socket = dial(&[closed_port(), open], &[], &budget).unwrap();
        assert_eq!(socket.peer_addr().unwrap().as_socket(), Some(open));
    }

    #[test]
    fn a_refused_connection_says_so() {
        let address = closed_port();
        let error = dial(&[address], &[], &Budget::new(CancelToken::new())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert_eq!(error.phase(), Some(Phase::Connect));
        assert_eq!(error.to_string(), format!("cannot connect to {address}: connection refused"));
    }

    #[test]
    fn a_stop_ends_the_dialling() {
        let cancel = CancelToken::new();
        cancel.stop(Stop::Abort);
        assert_eq!(dial(&[closed_port()], &[], &Budget::new(cancel)).unwrap_err().kind(), ErrorKind::Cancelled);
    }
}
