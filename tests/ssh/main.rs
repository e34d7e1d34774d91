//! What fleet does with real SSH servers: the simulator and OpenSSH's sshd.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

#[path = "../common/sshd.rs"]
#[expect(dead_code, reason = "each test binary uses a part of the fixture")]
mod fixture;
mod ground;
mod inputs;
mod scenario;
mod scripts;
mod simulator;
mod sshd;
#[path = "../common/sudo.rs"]
mod sudo;
