//! The only unsafe code: libssh2 through its C functions, made safe, and a setting of the heap that it uses.
//!
//! [`Link`] owns one libssh2 session with its channels and files; they are named by index, so nothing outlives its
//! session. Every call goes through [`Link::call`], which lends the session's [`Io`] to the callbacks. All calls are
//! non-blocking: `Ok(None)` means "again, with the same arguments, when bytes came".

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::slice;

use super::io::{Io, Reached};
use libssh2_sys as ffi;

mod channel;
mod heap;
mod sftp;
mod userauth;

pub(super) use channel::{ChannelId, Exit};
pub use heap::share_heap;
use sftp::Handle;
pub(super) use sftp::{Attrs, HandleId, Opened};
pub(super) use userauth::{Signing, is_after_signature};

/// What libssh2 said when a call failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// A `LIBSSH2_ERROR_…` number.
    pub(super) code: c_int,
    /// Its words.
    pub(super) message: String,
    /// The server's `SSH_FX_…` number, where it refused a file operation.
    pub(super) sftp_status: Option<u32>,
}

impl Failure {
    /// Tells whether a read failed because the server gave less than it was asked for, amid a file: libssh2 has asked for what
    /// comes behind that already, and cannot put it together.
    pub(super) fn is_of_short_read(&self) -> bool {
        self.code == ffi::LIBSSH2_ERROR_SFTP_PROTOCOL && self.message == "Read Packet At Unexpected Offset"
    }

    /// Tells whether the key exchange failed over what was said, not over the connection.
    pub(super) fn is_of_key_exchange(&self) -> bool {
        matches!(self.code, ffi::LIBSSH2_ERROR_KEX_FAILURE | ffi::LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (libssh2 {})", self.message, self.code)
    }
}

impl std::error::Error for Failure {}

/// The result of a call: done, again, or failed.
pub(super) type Step<T> = Result<Option<T>, Failure>;

/// A `Failure` of a call that cannot be made, such as one on a closed channel.
fn misuse(what: &str) -> Failure {
    Failure { code: ffi::LIBSSH2_ERROR_BAD_USE, message: what.to_owned(), sftp_status: None }
}

// What the library has and `libssh2-sys` 0.3.4 does not bind (include/libssh2.h of the bundled source).
unsafe extern "C" {
    fn libssh2_session_callback_set2(
        session: *mut ffi::LIBSSH2_SESSION,
        kind: c_int,
        callback: Option<unsafe extern "C" fn()>,
    ) -> Option<unsafe extern "C" fn()>;
    fn libssh2_session_set_read_timeout(session: *mut ffi::LIBSSH2_SESSION, timeout_s: c_long);
    fn libssh2_channel_has_exit_status(channel: *mut ffi::LIBSSH2_CHANNEL) -> c_int;
    fn libssh2_channel_signal_ex(channel: *mut ffi::LIBSSH2_CHANNEL, name: *const c_char, len: usize) -> c_int;
    fn libssh2_poll_channel_read(channel: *mut ffi::LIBSSH2_CHANNEL, extended: c_int) -> c_int;
    fn libssh2_sftp_get_channel(sftp: *mut ffi::LIBSSH2_SFTP) -> *mut ffi::LIBSSH2_CHANNEL;
    fn libssh2_sftp_posix_rename_ex(
        sftp: *mut ffi::LIBSSH2_SFTP,
        from: *const c_char,
        from_len: usize,
        to: *const c_char,
        to_len: usize,
    ) -> c_int;
    fn libssh2_sftp_statvfs(
        sftp: *mut ffi::LIBSSH2_SFTP,
        path: *const c_char,
        path_len: usize,
        found: *mut ffi::LIBSSH2_SFTP_STATVFS,
    ) -> c_int;
    fn libssh2_version(required: c_int) -> *const c_char;
}

const CALLBACK_DISCONNECT: c_int = 2;
const CALLBACK_SEND: c_int = 5;
const CALLBACK_RECV: c_int = 6;

/// How long libssh2 itself waits for a reply, in seconds; every wait has a budget of ours, so: longer than any of them.
const REPLY_TIMEOUT_S: c_long = 365 * 24 * 3600;

thread_local! {
    /// The socket of the session that this thread is calling into.
    static CURRENT: Cell<*const RefCell<Io>> = const { Cell::new(std::ptr::null()) };
}

struct Lent(*const RefCell<Io>);

impl Drop for Lent {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

fn with_current<T>(work: impl FnOnce(&mut Io) -> T) -> Option<T> {
    let current = CURRENT.get();
    // SAFETY: `Link::call` sets the pointer to the `RefCell` of a `Link` that it borrows for the whole call, and resets
    // it when the call ends; callbacks run on the calling thread only.
    let io = unsafe { current.as_ref() }?;
    io.try_borrow_mut().ok().map(|mut io| work(&mut io))
}

extern "C" fn on_send(_socket: c_int, buffer: *const c_void, len: usize, _flags: c_int, _: *mut *mut c_void) -> isize {
    if !buffer.is_null() {
        // SAFETY: libssh2 hands out `len` readable bytes (LIBSSH2_SEND_FUNC).
        let bytes = unsafe { slice::from_raw_parts(buffer.cast::<u8>(), len) };
        with_current(|io| io.send(bytes));
    }
    len.cast_signed()
}

extern "C" fn on_receive(_socket: c_int, buffer: *mut c_void, len: usize, _flags: c_int, _: *mut *mut c_void) -> isize {
    let nothing_yet = -(libc::EAGAIN as isize);
    if buffer.is_null() || len == 0 {
        return nothing_yet;
    }
    // SAFETY: libssh2 hands out `len` writable bytes (LIBSSH2_RECV_FUNC), initialised or not.
    let buffer = unsafe { slice::from_raw_parts_mut(buffer.cast::<MaybeUninit<u8>>(), len) };
    // Without a socket (the session is being freed) the connection is at its end.
    with_current(|io| io.receive(buffer)).unwrap_or(Some(0)).map_or(nothing_yet, usize::cast_signed)
}

extern "C" fn on_disconnect(
    _session: *mut ffi::LIBSSH2_SESSION,
    _reason: c_int,
    message: *const c_char,
    len: c_int,
    _language: *const c_char,
    _language_len: c_int,
    _: *mut *mut c_void,
) {
    if let Ok(len) = usize::try_from(len)
        && !message.is_null()
    {
        // SAFETY: libssh2 hands out `len` readable bytes (LIBSSH2_DISCONNECT_FUNC).
        let text = unsafe { slice::from_raw_parts(message.cast::<u8>(), len) };
        with_current(|io| io.set_disconnect(text));
    }
}

/// Returns the version of the libssh2 that is linked.
pub(super) fn version() -> String {
    // SAFETY: returns a static string for a required version of 0.
    let text = unsafe { libssh2_version(0) };
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and a static C string.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

struct SocketFd(RawFd);

impl AsRawFd for SocketFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// One libssh2 session over one socket, with its channels and files. Dropping it never waits.
pub(super) struct Link {
    session: ssh2::Session,
    raw: *mut ffi::LIBSSH2_SESSION,
    io: Box<RefCell<Io>>,
    channels: Vec<Option<*mut ffi::LIBSSH2_CHANNEL>>,
    sftp: Option<*mut ffi::LIBSSH2_SFTP>,
    /// Whether the end of its channel was sent; libssh2 would send another.
    is_sftp_ending: bool,
    handles: Vec<Option<Handle>>,
}

// SAFETY: the pointers belong to this session alone, libssh2 keeps no thread-local state, and `&mut self` on every call
// keeps it on one thread at a time.
unsafe impl Send for Link {}

impl Link {
    /// Makes a session on a connected, non-blocking socket; nothing is sent yet.
    pub(super) fn new(reached: Reached) -> Result<Self, Failure> {
        let mut session = ssh2::Session::new().map_err(|_| Failure {
            // There is no other reason, and libssh2 has no words for it.
            code: ffi::LIBSSH2_ERROR_ALLOC,
            message: "out of memory".to_owned(),
            sftp_status: None,
        })?;
        let raw: *mut ffi::LIBSSH2_SESSION = {
            let mut guard = session.raw();
            &raw mut *guard
        };
        session.set_blocking(false);
        session.set_tcp_stream(SocketFd(reached.as_raw_fd()));
        let io = Box::new(RefCell::new(Io::new(reached)));
        // SAFETY: the three functions have the types that libssh2 casts these callback kinds to (libssh2.h,
        // LIBSSH2_SEND_FUNC, LIBSSH2_RECV_FUNC, LIBSSH2_DISCONNECT_FUNC), and the session pointer is live.
        unsafe {
            type Callback = unsafe extern "C" fn();
            let send: Callback = std::mem::transmute(on_send as *const c_void);
            let receive: Callback = std::mem::transmute(on_receive as *const c_void);
            let disconnect: Callback = std::mem::transmute(on_disconnect as *const c_void);
            libssh2_session_callback_set2(raw, CALLBACK_SEND, Some(send));
            libssh2_session_callback_set2(raw, CALLBACK_RECV, Some(receive));
            libssh2_session_callback_set2(raw, CALLBACK_DISCONNECT, Some(disconnect));
            libssh2_session_set_read_timeout(raw, REPLY_TIMEOUT_S);
        }
        Ok(Self { session, raw, io, channels: Vec::new(), sftp: None, is_sftp_ending: false, handles: Vec::new() })
    }

    /// Looks at, or changes, the socket between calls.
    pub(super) fn io<T>(&self, work: impl FnOnce(&mut Io) -> T) -> T {
        work(&mut self.io.borrow_mut())
    }

    /// Calls into the `ssh2` crate with the socket lent to the callbacks.
    pub(super) fn session<T>(&mut self, work: impl FnOnce(&mut ssh2::Session) -> Result<T, ssh2::Error>) -> Step<T> {
        let _lent = self.lend();
        match work(&mut self.session) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.code() == ssh2::ErrorCode::Session(ffi::LIBSSH2_ERROR_EAGAIN) => Ok(None),
            Err(error) => Err(failure_of(&error)),
        }
    }

    /// Asks the server for a sign of life (a global request `keepalive@openssh.com` that wants a reply).
    pub(super) fn send_keepalive(&mut self) {
        let _lent = self.lend();
        self.session.set_keepalive(true, 1);
        // Whether it was sent shows in whether anything comes back.
        let _ = self.session.keepalive_send();
        self.session.set_keepalive(false, 0);
    }

    /// Takes the text that the server showed before the login, if it showed one.
    pub(super) fn userauth_banner(&self) -> Option<String> {
        let mut text: *mut c_char = std::ptr::null_mut();
        // SAFETY: the session is live; on success `text` points to a C string that it owns.
        let rc = unsafe { ffi::libssh2_userauth_banner(self.raw, &raw mut text) };
        if rc != 0 || text.is_null() {
            return None;
        }
        // SAFETY: a C string, copied before the next call.
        Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    }

    fn lend(&self) -> Lent {
        self.io.borrow_mut().begin_turn();
        let before = CURRENT.replace(&raw const *self.io);
        Lent(before)
    }

    /// Turns a return code into a step; `value` is made when it is not negative.
    fn step<T>(&self, rc: c_int, value: T) -> Step<T> {
        match rc {
            ffi::LIBSSH2_ERROR_EAGAIN => Ok(None),
            rc if rc < 0 => Err(self.failure(rc)),
            _ => Ok(Some(value)),
        }
    }

    /// Turns a pointer that is null on failure into a step.
    fn pointer<T>(&self, pointer: *mut T) -> Step<*mut T> {
        if !pointer.is_null() {
            return Ok(Some(pointer));
        }
        // SAFETY: the session is live.
        match unsafe { ffi::libssh2_session_last_errno(self.raw) } {
            ffi::LIBSSH2_ERROR_EAGAIN => Ok(None),
            code => Err(self.failure(code)),
        }
    }

    fn failure(&self, code: c_int) -> Failure {
        let mut text: *mut c_char = std::ptr::null_mut();
        let mut len: c_int = 0;
        // SAFETY: the session is live; with `want_buf` 0 the text stays libssh2's and is copied at once.
        let message = unsafe {
            ffi::libssh2_session_last_error(self.raw, &raw mut text, &raw mut len, 0);
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        };
        let sftp_status = match (code, self.sftp) {
            (ffi::LIBSSH2_ERROR_SFTP_PROTOCOL, Some(sftp)) => {
                // SAFETY: the SFTP session is live.
                u32::try_from(unsafe { ffi::libssh2_sftp_last_error(sftp) }).ok()
            }
            _ => None,
        };
        Failure { code, message, sftp_status }
    }

    /// Ends the session: says goodbye if that takes no waiting, shuts the socket down, frees everything.
    pub(super) fn close(&mut self, is_polite: bool) {
        if is_polite {
            // A failure to say goodbye changes nothing.
            let _ = self.session(|session| session.disconnect(Some(ssh2::DisconnectCode::ByApplication), "done", None));
        }
        self.io(Io::close);
        let _lent = self.lend();
        for handle in self.handles.drain(..).flatten() {
            // SAFETY: a live handle of this session, forgotten here. The socket is shut: nothing waits.
            unsafe { ffi::libssh2_sftp_close_handle(handle.raw) };
        }
        if let Some(sftp) = self.sftp.take() {
            // SAFETY: as above.
            unsafe { ffi::libssh2_sftp_shutdown(sftp) };
        }
        for channel in self.channels.drain(..).flatten() {
            // SAFETY: as above.
            unsafe { ffi::libssh2_channel_free(channel) };
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close(false);
        // `session` is freed when the fields are dropped: its callbacks then find no socket and do nothing.
    }
}

fn failure_of(error: &ssh2::Error) -> Failure {
    let (code, sftp_status) = match error.code() {
        ssh2::ErrorCode::Session(code) => (code, None),
        ssh2::ErrorCode::SFTP(code) => (ffi::LIBSSH2_ERROR_SFTP_PROTOCOL, u32::try_from(code).ok()),
    };
    Failure { code, message: error.message().to_owned(), sftp_status }
}

/// Lengths go to libssh2 as C `unsigned int`.
fn c_len(bytes: &[u8]) -> Result<u32, Failure> {
    u32::try_from(bytes.len()).map_err(|_| misuse("too long"))
}
