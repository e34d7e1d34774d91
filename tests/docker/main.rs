//! The binary against real servers in containers (docker/README.md), with a fixture of its own.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

mod docker;
mod fixture;
