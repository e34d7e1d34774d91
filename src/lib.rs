//! Runs commands and moves files on many hosts at once over SSH.
//!
//! ```no_run
//! use fleet::inventory::{LocalSecrets, Overrides, Selector};
//! use fleet::{Exec, Inventory, Pool, SshTransport};
//!
//! let inventory = Inventory::load("hosts.toml".as_ref())?;
//! let targets = inventory.select(&Selector::default())?;
//! let hosts = inventory.resolve(&targets, &Overrides::default(), &mut LocalSecrets::new())?.hosts;
//!
//! let pool = Pool::builder(SshTransport::new()).build();
//! for result in pool.map(&hosts, Exec::new("df -h /")) {
//!     match result.outcome {
//!         Ok(output) => print!("{}: {}", result.report.host.name, output.stdout.text()?),
//!         Err(error) => eprintln!("{}: {}", result.report.host.name, error.chain()),
//!     }
//! }
//! # Ok::<(), fleet::Error>(())
//! ```
//!
//! Five words: a [`Host`] says where and who, an [`Operation`] what, a [`Transport`] how one gets there, a [`Pool`] runs the
//! operation on all hosts at once, and every host has exactly one [`HostResult`]. All of it is plain blocking Rust on plain
//! threads; there is no async runtime.
//!
//! The recipes below run on [`fake::FakeTransport`], a transport without a network; put [`SshTransport::new`] in its place
//! for real hosts.
//!
//! # Run a command and look at the results
//!
//! [`Pool::map`] returns the results in the order of the hosts. A command that returned 1 is a value; `Err` means that fleet
//! could not run it, and the error says in which phase.
//!
//! ```
//! use std::sync::Arc;
//! use fleet::fake::{FakeTransport, Reply};
//! use fleet::{Class, ErrorKind, Exec, Host, Phase, Pool};
//!
//! let fake = FakeTransport::new();
//! fake.host("web1").on("uptime", Reply::new().stdout("up 3 days\n"));
//! fake.host("web2").on("uptime", Reply::new().stderr("no such command\n").code(127));
//! fake.host("db1").fails(ErrorKind::Login, Phase::Login);
//!
//! let hosts = ["web1", "web2", "db1"].map(|name| Arc::new(Host::new(name, name)));
//! let pool = Pool::builder(fake).build();
//! let results = pool.map(&hosts, Exec::new("uptime"));
//!
//! let [web1, web2, db1] = results.as_slice() else { unreachable!("one result a host, in their order") };
//! assert!(web1.is_ok());
//! assert_eq!(web1.value().unwrap().stdout.text()?, "up 3 days\n");
//! assert_eq!((web2.class(), web2.value().unwrap().code()), (Class::Failed, Some(127)));
//! assert_eq!((db1.class(), db1.error().unwrap().phase()), (Class::Unreachable, Some(Phase::Login)));
//! assert_eq!(web2.report.reason().as_deref(), Some("exit status 127"));
//! # Ok::<(), fleet::Error>(())
//! ```
//!
//! # Hear what happens while it happens
//!
//! [`Pool::run`] tells sinks every event; a closure is one, and may borrow. Nothing is kept, so a run's output may be of any
//! size. [`sink`] has the text and JSON forms of the command line.
//!
//! ```
//! use std::sync::Arc;
//! use fleet::fake::{FakeTransport, Reply};
//! use fleet::{Event, EventKind, Exec, Host, Pool, RunControl};
//!
//! let fake = FakeTransport::new();
//! fake.host("web1").otherwise(Reply::new().stdout("one\n").stderr("two\n"));
//!
//! let mut seen = String::new();
//! let mut sink = |event: &Event| {
//!     if let EventKind::Output { host, stream, bytes } = &event.kind {
//!         seen.push_str(&format!("{} {}: {}", host.name, stream.as_str(), String::from_utf8_lossy(bytes)));
//!     }
//!     Ok(())
//! };
//! let hosts = [Arc::new(Host::new("web1", "10.0.0.1"))];
//! let pool = Pool::builder(fake).build();
//! let summary = pool.run(&hosts, Exec::new("ls").capture(false), &RunControl::new(), &mut [&mut sink]);
//! assert!(summary.is_ok());
//! assert_eq!(seen, "web1 stdout: one\nweb1 stderr: two\n");
//! ```
//!
//! # Submit jobs, with callbacks and handles
//!
//! [`Pool::apply_async`] returns at once; the callback is called before the [`Handle`] is resolved. Every handle is resolved,
//! also when the pool is terminated.
//!
//! ```
//! use std::sync::{Arc, mpsc};
//! use std::time::Duration;
//! use fleet::{Exec, Host, Pool, fake::FakeTransport};
//!
//! let pool = Pool::builder(FakeTransport::new()).build();
//! let host = Arc::new(Host::new("web1", "10.0.0.1"));
//! let (done, names) = mpsc::channel();
//!
//! let handle = pool.apply_async(&host, Exec::new("sync"), move |result| {
//!     done.send(result.host().name.clone()).unwrap();
//! })?;
//! assert!(handle.wait(Duration::from_secs(10)));
//! assert_eq!(handle.successful(), Some(true));
//! assert_eq!(handle.get().value().unwrap().code(), Some(0));
//! assert_eq!(names.recv().unwrap(), "web1");
//!
//! pool.close();
//! pool.join()?;
//! # Ok::<(), fleet::Error>(())
//! ```
//!
//! # Take results as hosts end
//!
//! [`Pool::imap_unordered`] is an iterator; dropping it ends what still runs. [`Pool::imap`] keeps the order of the hosts.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use fleet::fake::{FakeTransport, Reply};
//! use fleet::{Exec, Host, Pool};
//!
//! let fake = FakeTransport::new();
//! fake.host("slow").otherwise(Reply::new().hang());
//! let hosts = ["slow", "quick"].map(|name| Arc::new(Host::new(name, name)));
//!
//! let pool = Pool::builder(fake).build();
//! let mut results = pool.imap_unordered(&hosts, Exec::new("make"));
//! assert_eq!(results.next().unwrap().host().name, "quick");
//! assert!(results.next_timeout(Duration::from_millis(20)).is_err());
//! drop(results); // ends `make` on the host that hangs
//! ```
//!
//! # Do several things in one login
//!
//! A closure is an operation: it has the host's session for as long as it wants, and returns any value. [`Job`] carries the
//! host and the limits; [`Error::failed`] says that the host did not do well.
//!
//! ```
//! use std::sync::Arc;
//! use fleet::fake::{FakeTransport, Reply};
//! use fleet::{Class, Error, Host, Job, Pool, Session, op};
//!
//! let fake = FakeTransport::new();
//! fake.answer(|host, command| match (host, command) {
//!     (_, "nproc") => Some(Reply::new().stdout("8\n")),
//!     ("web1", "cat /proc/loadavg") => Some(Reply::new().stdout("2.00 1.50 1.00 1/99 7\n")),
//!     ("web2", "cat /proc/loadavg") => Some(Reply::new().stdout("64.0 60.0 50.0 9/99 7\n")),
//!     _ => None,
//! });
//!
//! fn first_number(session: &mut dyn Session, job: &Job<'_>, command: &str) -> fleet::Result<f64> {
//!     let mut text = Vec::new();
//!     job.exec(session, command, &mut |_stream, bytes| {
//!         text.extend(bytes);
//!         Ok(())
//!     })?;
//!     let text = String::from_utf8_lossy(&text);
//!     let number = text.split_whitespace().next().and_then(|word| word.parse().ok());
//!     number.ok_or_else(|| Error::failed(format!("{command} gave no number")))
//! }
//!
//! let load = op::from_fn("load", |session, job| {
//!     let load = first_number(session, job, "cat /proc/loadavg")? / first_number(session, job, "nproc")?;
//!     if load > 4.0 { Err(Error::failed(format!("load is {load} a core"))) } else { Ok(load) }
//! });
//! let hosts = ["web1", "web2"].map(|name| Arc::new(Host::new(name, name)));
//! let results = Pool::builder(fake).build().map(&hosts, load);
//! assert_eq!(results[0].value(), Some(&0.25));
//! assert_eq!(results[1].class(), Class::Failed);
//! assert_eq!(results[1].report.reason().unwrap(), "load is 8 a core");
//! ```
//!
//! A value of a type of yours needs `impl fleet::Outcome for T {}`. Implement [`Operation`] instead of writing a closure
//! where an operation has settings, or may be repeated.
//!
//! # Send and fetch files
//!
//! [`op::Put`] looks at every local file before any host is contacted; [`op::Get`] writes into `DIR/HOST/`. Both go over SFTP,
//! arrive under a temporary name, and are renamed.
//!
//! ```
//! use std::sync::Arc;
//! use fleet::{Host, Pool, fake::FakeTransport, op};
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let dir = dir.path();
//! let fake = FakeTransport::new();
//! let hosts = ["web1", "web2"].map(|name| Arc::new(Host::new(name, name)));
//! let pool = Pool::builder(fake.clone()).build();
//!
//! std::fs::write(dir.join("motd"), "hello\n").unwrap();
//! let put = op::Put::new(&[dir.join("motd")], "/etc/motd")?;
//! fake.files("web1").create_dir("/etc");
//! let results = pool.map(&hosts, put);
//! assert_eq!(results[0].value().unwrap().bytes, 6);
//! assert_eq!(results[1].report.reason().unwrap(), "cannot write /etc/motd: no such file or directory");
//!
//! pool.map(&hosts[..1], op::Get::new("/etc/motd", dir.join("fetched"))?);
//! assert_eq!(std::fs::read_to_string(dir.join("fetched/web1/motd")).unwrap(), "hello\n");
//! # Ok::<(), fleet::Error>(())
//! ```
//!
//! # From an inventory to hosts
//!
//! Load, select, resolve: only what is selected is resolved, and only its secrets are fetched. The grammar of selections is
//! [`inventory::Selector`]'s.
//!
//! ```
//! use std::path::Path;
//! use fleet::inventory::{Inventory, LocalSecrets, Overrides, Selector};
//!
//! let text = r#"
//!     [defaults]
//!     user = "ops"
//!     [groups.web]
//!     hosts = ["web[01-20].example.com"]
//!     [hosts.db1]
//!     address = "10.0.0.5"
//!     port = 2222
//! "#;
//! let inventory = Inventory::parse(text, Path::new("hosts.toml"))?; // or Inventory::load(path)
//!
//! let mut selector = Selector::default(); // as it is: every host
//! selector.hosts.push("db1,web[01-03].example.com".into());
//! selector.exclude.push("web02*".into());
//! let targets = inventory.select(&selector)?;
//!
//! let mut overrides = Overrides::default();
//! overrides.flags.port = Some(2200);
//! # overrides.flags.identity = Some(Vec::new());
//! let hosts = inventory.resolve(&targets, &overrides, &mut LocalSecrets::new())?.hosts;
//! let logins: Vec<_> = hosts.iter().map(|host| format!("{}@{}:{}", host.user, host.address, host.port)).collect();
//! assert_eq!(logins, ["ops@web01.example.com:2200", "ops@web03.example.com:2200", "ops@10.0.0.5:2200"]);
//! # Ok::<(), fleet::Error>(())
//! ```
//!
//! # Hosts behind a bastion
//!
//! All hosts behind equal bastions share one login on them; the bastion resolves the address. A bastion may be behind another.
//!
//! ```no_run
//! use std::sync::Arc;
//! use fleet::{Exec, Host, Pool, Route, SshTransport};
//!
//! let gate = Arc::new(Host::new("gate", "gate.example.com"));
//! let hosts: Vec<_> = ["db1", "db2"]
//!     .map(|name| {
//!         let mut host = Host::new(name, name);
//!         host.route = Route::Jump(Arc::clone(&gate));
//!         Arc::new(host)
//!     })
//!     .into();
//! let results = Pool::builder(SshTransport::new()).build().map(&hosts, Exec::new("uptime"));
//! # drop(results);
//! ```
//!
//! # Limit and stop a run
//!
//! [`RunControl`] stops a run from anywhere: a signal handler, another thread, a sink. [`Stop::Drain`] starts no more hosts,
//! [`Stop::Abort`] also ends what runs, the remote processes included. [`PoolBuilder`] has the limits.
//!
//! ```
//! use std::num::NonZeroUsize;
//! use std::sync::Arc;
//! use std::time::Duration;
//! use fleet::event::StopReason;
//! use fleet::fake::{FakeTransport, Reply};
//! use fleet::{Class, Event, EventKind, Exec, Host, Pool, RunControl, Stop, Threshold};
//!
//! let fake = FakeTransport::new();
//! fake.host("n0").otherwise(Reply::new().stdout("found it\n").hang());
//! let hosts: Vec<_> = (0..9).map(|n| Arc::new(Host::new(format!("n{n}"), "10.0.0.1"))).collect();
//! let pool = Pool::builder(fake)
//!     .fanout(NonZeroUsize::MIN)             // one host after the other
//!     .timeout(Duration::from_secs(30))      // for each host, from the login on
//!     .max_fail(Threshold::Percent(10))      // then no more hosts are started
//!     .build();
//!
//! let control = RunControl::new();
//! let stop = control.clone();
//! let mut until_found = move |event: &Event| {
//!     if let EventKind::Output { .. } = event.kind {
//!         stop.stop(Stop::Abort, StopReason::Interrupt);
//!     }
//!     Ok(())
//! };
//! let summary = pool.run(&hosts, Exec::new("grep …"), &control, &mut [&mut until_found]);
//! assert_eq!(summary.stopped_by, Some(StopReason::Interrupt));
//! assert_eq!((summary.of(Class::Cancelled), summary.of(Class::NotStarted)), (1, 8));
//! assert_eq!(summary.exit_code(), 130);
//! ```
//!
//! # Test what you build on fleet
//!
//! Take the transport as a parameter, and give tests a [`fake::FakeTransport`]: it answers as told, keeps files in memory,
//! fails on demand, and records what was run.
//!
//! ```
//! use std::sync::Arc;
//! use fleet::fake::{FakeTransport, Reply};
//! use fleet::{Exec, Host, Pool, Transport};
//!
//! /// Restarts a service where it is not active, and returns where that was needed.
//! fn mend(transport: impl Transport + 'static, hosts: &[Arc<Host>], service: &str) -> Vec<String> {
//!     let pool = Pool::builder(transport).build();
//!     let checked = pool.map(hosts, Exec::new(format!("systemctl is-active {service}")));
//!     let broken: Vec<_> = checked.iter().filter(|result| !result.is_ok()).map(|result| result.host().clone()).collect();
//!     let mended = pool.map(&broken, Exec::new(format!("systemctl restart {service}")));
//!     mended.iter().filter(|result| result.is_ok()).map(|result| result.host().name.clone()).collect()
//! }
//!
//! let fake = FakeTransport::new();
//! fake.host("web2").on("systemctl is-active nginx", Reply::new().stdout("failed\n").code(3));
//! let hosts = ["web1", "web2"].map(|name| Arc::new(Host::new(name, name)));
//! assert_eq!(mend(fake.clone(), &hosts, "nginx"), ["web2"]);
//! assert_eq!(fake.calls().last().unwrap().command, "systemctl restart nginx");
//! assert_eq!(fake.calls().len(), 3);
//! ```
//!
//! # Where to find what you know from elsewhere
//!
//! | paramiko, `multiprocessing.Pool`, `concurrent.futures` | here |
//! |---|---|
//! | `SSHClient().connect(…)` | [`Host`] says where and who; the [`Pool`] connects |
//! | `exec_command`, `recv_exit_status` | [`Exec`]; [`Ended::status`](transport::Ended) (not `-1` but [`ExitStatus::NotSent`]) |
//! | `exec_command(environment=…, get_pty=True)`, `stdin.write` | [`op::Context`], [`Exec::pty`], [`Exec::stdin`] with an [`Input`] for all hosts; [`quote`](quote()) for `shlex.quote` |
//! | `sock=transport.open_channel("direct-tcpip", …)`, `ProxyCommand` | [`Route::Jump`], [`Route::Command`] |
//! | `AutoAddPolicy`, `RejectPolicy`, `WarningPolicy` | [`HostKeyPolicy`]: `AcceptNew` (a changed key is refused), `Strict`, `Off` |
//! | `RSAKey.from_private_key_file` | [`Identity::File`], [`Identity::Memory`] |
//! | `SFTPClient.put`, `get` | [`op::Put`], [`op::Get`]: directories too, never half a file; callbacks are [`EventKind::Transfer`] |
//! | `open_sftp().stat`, `listdir`, … | [`Session::files`] inside an operation |
//! | `SSHException` and its kin | [`Error`]: [`ErrorKind`] says what, [`Phase`] where |
//! | `Pool(processes)`, `max_workers` | [`PoolBuilder::fanout`] |
//! | `map`, `imap`, `imap_unordered`, `as_completed` | [`Pool::map`], [`Pool::imap`], [`Pool::imap_unordered`] |
//! | `apply_async`, `submit`, `add_done_callback` | [`Pool::apply_async`], [`Pool::submit`]; one callback for both ends |
//! | `AsyncResult.get`, `wait`, `ready`, `successful` | [`Handle::get`], [`get_timeout`](Handle::get_timeout), [`wait`](Handle::wait), [`ready`](Handle::ready), [`successful`](Handle::successful) |
//! | `Future.cancel` | [`Handle::cancel`]: a running job too, and its remote process |
//! | `close`, `terminate`, `join`, `shutdown` | [`Pool::close`], [`Pool::terminate`] (resolves every handle), [`Pool::join`] |
//! | `initializer`, `maxtasksperchild`, `chunksize` | none: a thread per host in flight costs nothing to start |
#![warn(missing_docs)]

mod breaker;
pub mod budget;
mod cores;
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
mod public_key;
mod quote;
mod record;
pub mod sink;
mod size;
pub mod spool;
pub mod ssh;
pub mod ssh_config;
pub mod transport;

pub use budget::{Budget, CancelToken, Stop};
pub use duration::parse_duration;
pub use error::{Error, ErrorKind, Phase, Result};
pub use event::{Class, Event, EventKind, HostReport, HostResult, Outcome, Sink, Stream, Summary};
pub use host::{
    AddressFamily, AgentUse, Algorithms, Answer, Auth, Become, BecomeBy, Host, HostKeyPolicy, HostSpec, Identity,
    LoginMethod, Route, Secret, SecretRef, Settings, Timeouts, Var,
};
pub use inventory::Inventory;
pub use limit::raise_descriptor_limit;
pub use op::{Exec, ExecOutput, Job, Operation, Ping};
pub use pool::{Handle, Outputs, Pool, PoolBuilder, RunControl, Threshold, Wave};
pub use public_key::PublicKey;
pub use quote::quote;
pub use record::{Pattern, Record};
pub use size::parse_size;
pub use spool::Input;
pub use ssh::SshTransport;
pub use transport::{Ended, ExitStatus, Session, Transport};

/// The README's examples, run with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
