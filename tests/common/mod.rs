//! What several test files share.
#![expect(dead_code, reason = "no test file uses all of it")]

pub mod sshd;
