//! Logging in with a key whose signature somebody else makes.

use std::ffi::{CString, c_char, c_int, c_void};
use std::{ptr, slice};

use libssh2_sys as ffi;

use super::{Failure, Link, Step, misuse};

type SignCallback =
    extern "C" fn(*mut ffi::LIBSSH2_SESSION, *mut *mut u8, *mut usize, *const u8, usize, *mut *mut c_void) -> c_int;

// What the library has and `libssh2-sys` 0.3.4 does not bind (include/libssh2.h of the bundled source).
unsafe extern "C" {
    fn libssh2_userauth_publickey(
        session: *mut ffi::LIBSSH2_SESSION,
        user: *const c_char,
        key_blob: *const u8,
        key_blob_len: usize,
        sign: SignCallback,
        abstraction: *mut *mut c_void,
    ) -> c_int;
}

/// A signature on its way: libssh2 says what to sign, somebody signs, libssh2 is called again.
#[derive(Debug, Default)]
pub(in crate::ssh) struct Signing {
    wanted: Option<Vec<u8>>,
    /// `Some(None)`: there will be none.
    signature: Option<Option<Vec<u8>>>,
}

impl Signing {
    /// Takes what has to be signed, once the server wants a signature.
    pub(in crate::ssh) fn take_wanted(&mut self) -> Option<Vec<u8>> {
        self.wanted.take()
    }

    /// Gives the signature, without the name of its algorithm; `None` when nobody signs.
    pub(in crate::ssh) fn set(&mut self, signature: Option<Vec<u8>>) {
        self.signature = Some(signature);
    }
}

extern "C" fn on_sign(
    _session: *mut ffi::LIBSSH2_SESSION,
    signature: *mut *mut u8,
    signature_len: *mut usize,
    data: *const u8,
    data_len: usize,
    abstraction: *mut *mut c_void,
) -> c_int {
    if data.is_null() || signature.is_null() || signature_len.is_null() || abstraction.is_null() {
        return ffi::LIBSSH2_ERROR_BAD_USE;
    }
    // SAFETY: `abstraction` is what `Link::userauth_publickey` passed: a pointer to a pointer to a `Signing` that it
    // borrows for the whole call.
    let signing = unsafe { &mut *(*abstraction).cast::<Signing>() };
    let bytes = match &signing.signature {
        None => {
            // SAFETY: libssh2 hands out `data_len` readable bytes (LIBSSH2_USERAUTH_PUBLICKEY_SIGN_FUNC).
            signing.wanted = Some(unsafe { slice::from_raw_parts(data, data_len) }.to_vec());
            return ffi::LIBSSH2_ERROR_EAGAIN;
        }
        Some(None) => return ffi::LIBSSH2_ERROR_AUTHENTICATION_FAILED,
        Some(Some(bytes)) => bytes,
    };
    // SAFETY: libssh2 frees it by its own allocator, which is malloc's: `ssh2` makes every session without another one.
    let copy = unsafe { libc::malloc(bytes.len().max(1)) }.cast::<u8>();
    if copy.is_null() {
        return ffi::LIBSSH2_ERROR_ALLOC;
    }
    // SAFETY: `copy` has room for the bytes, and both results are libssh2's own variables.
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), copy, bytes.len());
        *signature = copy;
        *signature_len = bytes.len();
    }
    0
}

impl Link {
    /// Offers a public key, and signs for it by `signing`.
    ///
    /// "Again" means either bytes or a signature: the latter when [`Signing::take_wanted`] has something.
    pub(in crate::ssh) fn userauth_publickey(
        &mut self,
        user: &str,
        key_blob: &[u8],
        signing: &mut Signing,
    ) -> Step<()> {
        let user = CString::new(user).map_err(|_| misuse("the login name has a null byte"))?;
        let mut signing = ptr::from_mut(signing).cast::<c_void>();
        let lent = self.lend();
        // SAFETY: the session is live; the name, the key and `signing` outlive the call, and the callback has the type
        // of LIBSSH2_USERAUTH_PUBLICKEY_SIGN_FUNC.
        let rc = unsafe {
            libssh2_userauth_publickey(
                self.raw,
                user.as_ptr(),
                key_blob.as_ptr(),
                key_blob.len(),
                on_sign,
                &raw mut signing,
            )
        };
        drop(lent);
        self.step(rc, ())
    }
}

/// Tells whether the server wanted a key's signature and then did not let the login in: a wrong signature, or a right one
/// that is only the first step.
pub(in crate::ssh) fn is_after_signature(failure: &Failure) -> bool {
    failure.code == ffi::LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED
}
