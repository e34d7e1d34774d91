//! SSH through libssh2: the only code that names `ssh2`, `libssh2-sys` and `openssl`.

#[cfg_attr(not(test), expect(dead_code, reason = "the login that uses it is merged by hand"))]
pub(crate) mod keys;
