//! Hostsets: `web[01-20,30].example.com` for many names at once, as ClusterShell writes them.
//!
//! | written | stands for |
//! |---|---|
//! | `web[1-3]` | `web1` `web2` `web3` |
//! | `web[08-10]` | `web08` `web09` `web10`: the start of a range sets the width |
//! | `n[0-10/5]` | `n0` `n5` `n10` |
//! | `rack[1-2]n[1-2]` | `rack1n1` `rack1n2` `rack2n1` `rack2n2` |
//! | `10.0.[0-3].[1-250]` | 1,000 addresses |
//! | `[::1]:22` | itself: an IPv6 address in brackets at the start of a name, or after its `@` |
//!
//! # Examples
//!
//! ```
//! let names = fleet::hostset::expand("web[08-10],db1")?;
//! assert_eq!(names, ["web08", "web09", "web10", "db1"]);
//! assert_eq!(fleet::hostset::fold(["web2", "db1", "web1", "web10"]), "db1,web[1-2,10]");
//! # Ok::<(), fleet::Error>(())
//! ```

mod cursor;
mod fold;
mod natural;
mod parse;

pub use fold::fold;
pub use natural::natural_cmp;
pub use parse::{HostSet, Names};

pub(crate) use cursor::{Cursor, Syntax};

use crate::error::Result;

/// How many names one hostset may stand for.
pub const MAX_NAMES: u64 = 10_000_000;

/// Expands a hostset into its names, in the order written and with duplicates kept.
///
/// # Errors
///
/// [`ErrorKind::Usage`](crate::ErrorKind::Usage) with the column and what was expected there, or when the hostset stands
/// for more than [`MAX_NAMES`] names.
pub fn expand(text: &str) -> Result<Vec<String>> {
    Ok(HostSet::parse(text)?.iter().collect())
}
