//! Nothing hangs, nothing is lost, nothing is left: each fault under each operation, among 200 healthy hosts.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests"
)]

mod docker;
#[path = "../docker/fixture.rs"]
#[expect(dead_code, reason = "each test binary uses a part of the fixture")]
mod fixture;
#[path = "../ssh/ground.rs"]
#[expect(dead_code, reason = "each test binary uses a part of the ground")]
mod ground;
mod matrix;
mod run;
mod simulator;
