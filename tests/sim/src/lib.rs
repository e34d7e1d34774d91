//! Simulated SSH hosts: any number of them in one process, on 127.x.y.z, with real key exchange, logins,
//! shells and SFTP, and with faults on demand.
//!
//! ```
//! use fleet_sim::{HostPlan, Logins, Mode, Sim, SimConfig};
//!
//! let plan = HostPlan::new()
//!     .mode(Mode::canned("hello\n"))
//!     .logins(Logins::password("ops", "secret"));
//! let sim = Sim::start(SimConfig::uniform(3, plan))?;
//! assert_eq!(sim.hosts().len(), 3);
//! assert_eq!(sim.hosts()[0].name(), "sim0001");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Dropping [`Sim`] closes every listener and connection and ends every process that its hosts started.

mod accept;
mod accounts;
mod config;
mod delay;
mod exec;
mod faults;
mod forward;
mod inbox;
mod inventory;
mod keys;
mod line;
mod net;
mod procs;
mod raw;
mod scenario;
mod session;
mod sftp;
mod sim;
mod stats;

pub use config::{Canned, HostPlan, InventoryPlan, Logins, Method, Mode, Repeated, SftpEvil, SimConfig, User};
pub use faults::{Fault, parse_duration, parse_size};
pub use keys::{FixtureKey, KeyKind};
pub use scenario::Scenario;
pub use sim::{Sim, SimHost};
pub use stats::{LoginCounts, Stats};
