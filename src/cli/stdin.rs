//! Standard input has one reader.

use std::sync::OnceLock;

static READER: OnceLock<&str> = OnceLock::new();

/// Takes standard input for a purpose, such as `the hosts`; once it is taken, the same purpose may ask again.
///
/// # Errors
///
/// Says what else it would be.
pub(crate) fn claim(purpose: &'static str) -> Result<(), String> {
    match *READER.get_or_init(|| purpose) {
        other if other != purpose => Err(format!("standard input cannot be both {other} and {purpose}")),
        _ => Ok(()),
    }
}
