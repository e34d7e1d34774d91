//! Output forms: what a run looks like on a terminal, in a pipe, to a program. One file per form.
//!
//! Every form writes to an [`io::Write`](std::io::Write) that it is given and knows nothing of terminals but what its
//! options say. One event is at most one write to each stream, so a line appears as soon as it is known and a flood of
//! lines costs one write per 32 KiB.

mod escape;
#[cfg(test)]
mod fixtures;
mod json;
mod lines;
mod names;
mod status;
mod text;

pub use escape::escape;
pub use json::{Json, JsonOptions};
pub use status::{Status, StatusOptions};
pub use text::{Target, Text, TextOptions};
