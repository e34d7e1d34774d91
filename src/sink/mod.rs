//! Output forms: what a run looks like on a terminal, in a pipe, to a program. One file per form.
//!
//! Every form writes to an [`io::Write`](std::io::Write) that it is given, and knows nothing of terminals but what its
//! options say. It gathers what a batch of events says and writes it in one piece at [`Sink::flush`](crate::Sink::flush),
//! at 64 KiB and at the run's end: a line appears as soon as nothing else waits, and a flood costs a write per 64 KiB.

mod buffer;
mod captured;
mod cause;
mod csv;
mod escape;
#[cfg(test)]
mod fixtures;
mod fold;
mod json;
mod jsonl;
mod lines;
mod names;
mod ordered;
mod out;
mod out_dir;
mod result;
#[cfg(test)]
mod schemas;
mod status;
mod table;
mod text;

pub use csv::{Csv, CsvOptions, csv_row};
pub use escape::escape;
pub use fold::{Fold, FoldOptions, Group};
pub use json::{Json, JsonOptions};
pub use jsonl::{JsonLines, JsonLinesOptions};
pub use names::fold_names;
pub use ordered::Ordered;
pub use out::Target;
pub use out_dir::OutDir;
pub use status::{Status, StatusOptions};
pub use table::{Table, TableOptions};
pub use text::{Text, TextOptions};
