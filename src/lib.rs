//! Runs commands and moves files on many hosts at once over SSH.
#![warn(missing_docs)]

pub mod budget;
mod error;
pub mod event;
pub mod fake;
mod host;
pub mod op;
pub mod pool;
pub mod spool;
pub mod transport;

pub use budget::{Budget, CancelToken, Stop};
pub use error::{Error, ErrorKind, Phase, Result};
pub use event::{Class, Event, EventKind, HostReport, HostResult, Outcome, Sink, Stream, Summary};
pub use host::{Auth, Host, HostKeyPolicy, HostSpec, Identity, Secret, SecretRef, Settings, Timeouts, Var};
pub use op::{Exec, ExecOutput, Job, Operation, Ping};
pub use pool::{Handle, Outputs, Pool, PoolBuilder, RunControl, Threshold, Wave};
pub use transport::{Ended, ExitStatus, Session, Transport};
