//! `fleet-sim`: simulated hosts for trying fleet out, for its quickstart and its benchmarks.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use fleet_sim::{Fault, FixtureKey, HostPlan, KeyKind, Logins, Mode, Scenario, Sim, SimConfig, Stats};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Simulated SSH hosts on 127.x.y.z. Prints the path of an inventory, then runs until standard input ends or a signal comes.
#[derive(Debug, Parser)]
#[command(name = "fleet-sim", version)]
struct Args {
    /// How many hosts.
    #[arg(long, value_name = "N", default_value_t = 10)]
    hosts: usize,
    /// Where to put the inventory, keys and homes [default: a temporary directory, removed at the end].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Answer every command with this text instead of running a shell [default text: ok].
    #[arg(long, value_name = "TEXT", num_args = 0..=1, default_missing_value = "ok\n")]
    canned: Option<String>,
    /// Log in with a password instead of a key.
    #[arg(long)]
    password: bool,
    /// Break COUNT hosts, chosen by the seed; `--fault help` lists the names.
    #[arg(long, value_name = "NAME=COUNT")]
    fault: Vec<String>,
    /// The seed of host keys and of the choice of faulty hosts.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The round trip of every link.
    #[arg(long, value_name = "DURATION", value_parser = fleet_sim::parse_duration)]
    rtt: Option<Duration>,
    /// The hosts of this file instead of --hosts, --canned, --fault, --rtt and --seed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["hosts", "canned", "fault", "rtt", "seed"])]
    scenario: Option<PathBuf>,
    /// Threads of the simulator.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without standard error there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "fleet-sim: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    if args.fault.iter().any(|name| name == "help") {
        for name in Fault::NAMES {
            writeln!(std::io::stdout(), "{name}")?;
        }
        return Ok(());
    }
    let the_end = TheEnd::watch()?;
    let scratch = match &args.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir)?;
            None
        }
        None => Some(tempfile::Builder::new().prefix("fleet-sim-").tempdir()?),
    };
    let dir = match (&args.dir, &scratch) {
        (Some(dir), _) => dir.canonicalize()?,
        (None, Some(scratch)) => scratch.path().to_owned(),
        (None, None) => unreachable!("one of the two was chosen above"),
    };
    let sim = Sim::start(config(args, &dir)?)?;
    let inventory = dir.join("hosts.toml");
    sim.write_known_hosts(dir.join("known_hosts"))?;
    sim.write_inventory(&inventory)?;
    writeln!(std::io::stdout(), "{}", inventory.display())?;
    the_end.wait();
    let stats = sim.stats();
    drop(sim);
    writeln!(std::io::stderr(), "{}", summary(&stats))?;
    Ok(())
}

fn config(args: &Args, dir: &Path) -> Result<SimConfig, Box<dyn Error>> {
    let (logins, client) = credentials(args, dir)?;
    let mut config = match &args.scenario {
        Some(path) => Scenario::load(path)?.config(&logins)?,
        None => SimConfig::of(plans(args, logins)?).seed(args.seed),
    };
    config = match client {
        Client::Identity(path) => config.identity(path),
        Client::Password(path) => config.password_ref(format!("file:{}", path.display())),
    };
    config.inventory.user = Some(USER.to_owned());
    config.threads = args.threads;
    Ok(config.known_hosts(dir.join("known_hosts")).dir(dir.join("home")))
}

/// The login name on every host.
const USER: &str = "ops";

enum Client {
    Identity(PathBuf),
    Password(PathBuf),
}

fn credentials(args: &Args, dir: &Path) -> Result<(Logins, Client), Box<dyn Error>> {
    if args.password {
        let path = dir.join("password");
        let password = format!("{:016x}", rand::random::<u64>());
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?
            .write_all(password.as_bytes())?;
        return Ok((Logins::password(USER, password), Client::Password(path)));
    }
    let path = dir.join("id_ed25519");
    let key = if path.exists() { FixtureKey::existing(path)? } else { FixtureKey::generate(KeyKind::Ed25519, path)? };
    Ok((Logins::key(USER, &key), Client::Identity(key.path)))
}

fn plans(args: &Args, logins: Logins) -> Result<Vec<HostPlan>, Box<dyn Error>> {
    let mut plan = HostPlan::new().logins(logins);
    if let Some(text) = &args.canned {
        plan.mode = Mode::canned(text.as_str());
    }
    plan.rtt = args.rtt;
    let mut plans = vec![plan; args.hosts];
    let mut order: Vec<&mut HostPlan> = plans.iter_mut().collect();
    order.shuffle(&mut StdRng::seed_from_u64(args.seed));
    for choice in &args.fault {
        let (name, count) = choice.rsplit_once('=').unwrap_or((choice, "1"));
        let fault: Fault = name.parse()?;
        let count: usize = count.parse().map_err(|_| format!("not a number in --fault {choice}"))?;
        if count > order.len() {
            return Err("more faults than hosts".into());
        }
        for host in order.drain(..count) {
            host.fault = Some(fault.clone());
        }
    }
    drop(order);
    Ok(plans)
}

/// The end of standard input, SIGTERM or SIGINT, noticed from the moment it is made.
struct TheEnd {
    runtime: tokio::runtime::Runtime,
    terminate: Signal,
    interrupt: Signal,
    input: tokio::sync::oneshot::Receiver<()>,
}

impl TheEnd {
    fn watch() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let guard = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        drop(guard);
        let (at_end, input) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            let mut chunk = [0; 4096];
            while matches!(std::io::stdin().read(&mut chunk), Ok(n) if n > 0) {}
            // The receiver is gone when a signal came first.
            let _ = at_end.send(());
        })?;
        Ok(Self { runtime, terminate, interrupt, input })
    }

    fn wait(mut self) {
        self.runtime.block_on(async {
            tokio::select! {
                _ = self.input => {}
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
        });
    }
}

fn summary(stats: &Stats) -> String {
    let refused = stats.publickey.refused + stats.password.refused + stats.keyboard_interactive.refused;
    format!(
        "fleet-sim: {} connections (at most {} at once, {} of them unauthenticated), {} logins ({refused} refused), {} commands, {} sftp",
        stats.connections, stats.peak_open, stats.peak_unauthenticated, stats.logins, stats.commands, stats.sftp
    )
}
