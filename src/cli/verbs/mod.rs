//! The verbs, one file each: from their flags to a run.

pub(crate) mod completions;
pub(crate) mod copy_id;
pub(crate) mod exec;
pub(crate) mod get;
pub(crate) mod hosts;
pub(crate) mod man;
pub(crate) mod ping;
pub(crate) mod put;
pub(crate) mod script;
pub(crate) mod trust;
