//! Runs commands and moves files on many hosts at once over SSH.
#![warn(missing_docs)]

pub mod budget;
mod duration;
mod error;
pub mod event;
pub mod fake;
mod host;
pub mod hostset;
pub mod inventory;
pub mod known_hosts;
mod limit;
pub mod op;
pub mod pool;
pub mod sink;
pub mod spool;
pub mod ssh;
pub mod transport;

pub use budget::{Budget, CancelToken, Stop};
pub use duration::parse_duration;
pub use error::{Error, ErrorKind, Phase, Result};
pub use event::{Class, Event, EventKind, HostReport, HostResult, Outcome, Sink, Stream, Summary};
pub use host::{Auth, Host, HostKeyPolicy, HostSpec, Identity, Secret, SecretRef, Settings, Timeouts, Var};
pub use inventory::Inventory;
pub use limit::raise_descriptor_limit;
pub use op::{Exec, ExecOutput, Job, Operation, Ping};
pub use pool::{Handle, Outputs, Pool, PoolBuilder, RunControl, Threshold, Wave};
pub use ssh::SshTransport;
pub use transport::{Ended, ExitStatus, Session, Transport};
