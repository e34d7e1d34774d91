//! libssh2's error numbers as fleet's errors, mapped at this border once.

use libssh2_sys as ffi;

use super::io::{Ending, Io};
use super::raw::Failure;
use crate::error::{Error, ErrorKind, Phase};

/// Why a step of the protocol did not succeed.
pub(super) enum Fault {
    /// The server said no, or libssh2 did: what that means depends on what was asked.
    Refused(Failure),
    /// The connection or the budget ended: the same whatever was asked.
    Error(Error),
}

impl Fault {
    /// Makes an error of a fault where nothing special is expected.
    pub(super) fn into_error(self, phase: Phase, what: &str) -> Error {
        match self {
            Self::Error(error) => error,
            Self::Refused(failure) => Error::new(ErrorKind::Protocol, what).caused_by(failure).in_phase(phase),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Sorts a failure: the connection's own, or an answer.
pub(super) fn sort(failure: Failure, phase: Phase) -> Fault {
    let (kind, what) = match failure.code {
        _ if failure.is_of_key_exchange() => (ErrorKind::Protocol, "no key exchange with this server"),
        ffi::LIBSSH2_ERROR_HOSTKEY_INIT | ffi::LIBSSH2_ERROR_HOSTKEY_SIGN => {
            (ErrorKind::Protocol, "the server did not prove that it has its host key")
        }
        ffi::LIBSSH2_ERROR_INVALID_MAC
        | ffi::LIBSSH2_ERROR_DECRYPT
        | ffi::LIBSSH2_ERROR_PROTO
        | ffi::LIBSSH2_ERROR_BANNER_RECV
        | ffi::LIBSSH2_ERROR_OUT_OF_BOUNDARY
        | ffi::LIBSSH2_ERROR_ZLIB => (ErrorKind::Protocol, "the server broke the SSH protocol"),
        ffi::LIBSSH2_ERROR_SOCKET_DISCONNECT
        | ffi::LIBSSH2_ERROR_SOCKET_RECV
        | ffi::LIBSSH2_ERROR_SOCKET_SEND
        | ffi::LIBSSH2_ERROR_BANNER_SEND
        | ffi::LIBSSH2_ERROR_SOCKET_TIMEOUT => (ErrorKind::Disconnected, "the connection ended"),
        ffi::LIBSSH2_ERROR_ALLOC => (ErrorKind::LocalLimit, "out of memory"),
        _ => return Fault::Refused(failure),
    };
    Fault::Error(Error::new(kind, what).caused_by(failure).in_phase(phase))
}

/// Makes the error of a connection that ended in `phase`.
pub(super) fn disconnected(io: &Io, ending: &Ending, phase: Phase) -> Error {
    if let (None, Some((kind, words))) = (io.disconnect_message(), io.last_words()) {
        // Who was logged in has lost the connection, whatever ended it.
        let kind = if phase.is_before_session() { kind } else { ErrorKind::Disconnected };
        return Error::new(kind, words).in_phase(phase);
    }
    if phase == Phase::Banner
        && let Some(line) = io.preamble().first_line()
    {
        return Error::new(ErrorKind::Protocol, format!("the server said \"{line}\" instead of SSH")).in_phase(phase);
    }
    let error = match (io.disconnect_message().filter(|message| !message.is_empty()), ending) {
        (Some(message), _) => Error::new(ErrorKind::Disconnected, format!("the server disconnected: {message}")),
        (None, Ending::Closed) if phase == Phase::Banner => {
            Error::new(ErrorKind::Disconnected, "the server closed the connection before its SSH banner")
        }
        (None, Ending::Closed) => {
            Error::new(ErrorKind::Disconnected, format!("the server closed the connection in {phase}"))
        }
        (None, Ending::Failed(cause)) => {
            Error::new(ErrorKind::Disconnected, format!("the connection failed in {phase}"))
                .caused_by(std::io::Error::new(cause.kind(), cause.to_string()))
        }
    };
    error.in_phase(phase)
}
