//! `fleet exec true` over many simulated hosts, beside what people use now, in one run.
//!
//! ```text
//! cargo build --release -p fleet-sim
//! cargo bench --bench peers -- [--hosts 1000] [--fanout 64] [--rounds 1]
//! ```
//!
//! pssh, pdsh, clush and ansible are whole processes that start `ssh`; parallel-ssh is a program of that library. Those that are not
//! installed are named and left out. All have the same key, the same hosts and the same keys of hosts, which all but parallel-ssh check. Wall and
//! CPU time are the kernel's (`wait4`): a process and all its children, of which the peak is the largest one's. The machines are shared and noisy: quote ratios of one run.
#![expect(clippy::print_stdout, reason = "a report")]
#![expect(clippy::unwrap_used, reason = "a failed measurement ends")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cost::{Cost, measure, median, value};
use simulator::{Simulator, addresses};

mod cost;
mod simulator;

/// A program of the parallel-ssh library: hosts, port, user, key, how many at once.
const PARALLEL_SSH: &str = r"
import sys
from pssh.clients import ParallelSSHClient
hosts, port, user, key, fanout = sys.argv[1:]
hosts = open(hosts).read().split()
client = ParallelSSHClient(hosts, port=int(port), user=user, pkey=key, pool_size=int(fanout), allow_agent=False)
output = client.run_command('true')
client.join(output)
assert all(host.exit_code == 0 for host in output)
";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let hosts: usize = value(&args, "--hosts", 1000);
    let fanout: usize = value(&args, "--fanout", 64);
    let rounds: usize = value(&args, "--rounds", 1);
    let dir = tempfile::tempdir().unwrap();
    let ground = Ground::start(dir.path(), hosts);
    println!("{hosts} simulated hosts, `true`, ed25519 key, {fanout} at once, median of {rounds}");
    println!(
        "{:<14} {:>8} {:>8} {:>12} {:>8} {:>8} {:>8}",
        "", "wall s", "cpu s", "cpu ms/host", "peak MB", "x wall", "x cpu"
    );
    let fleet = median((0..rounds.max(3)).map(|_| measure(ground.sim.fleet(fanout))).collect());
    show("fleet", &fleet, &fleet, hosts);
    for (name, probe, command) in ground.peers(fanout) {
        if is_missing(probe) {
            println!("{name:<14} not installed");
            continue;
        }
        show(name, &median((0..rounds).map(|_| measure(command())).collect()), &fleet, hosts);
    }
}

fn show(name: &str, cost: &Cost, fleet: &Cost, hosts: usize) {
    let (wall, cpu) = (cost.wall.as_secs_f64(), cost.cpu.as_secs_f64());
    println!(
        "{name:<14} {wall:>8.2} {cpu:>8.2} {:>12.2} {:>8.1} {:>8.1} {:>8.1}",
        cpu * 1000.0 / hosts as f64,
        cost.peak_kb as f64 / 1024.0,
        wall / fleet.wall.as_secs_f64(),
        cpu / fleet.cpu.as_secs_f64()
    );
}

/// Tells whether a program cannot be started, or does not answer well.
fn is_missing(words: &[&str]) -> bool {
    let (program, args) = words.split_first().unwrap();
    let status =
        Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    !status.is_ok_and(|status| status.success())
}

/// How a peer is known to be there, and how it is run.
type Peer<'a> = (&'static str, &'static [&'static str], Box<dyn Fn() -> Command + 'a>);

/// The hosts, and the files that the peers read.
struct Ground {
    sim: Simulator,
    port: u16,
    ssh_config: PathBuf,
    names: PathBuf,
    list: String,
    ini: PathBuf,
}

impl Ground {
    fn start(dir: &Path, hosts: usize) -> Self {
        let sim = Simulator::start(dir, hosts);
        let addresses = addresses(&sim.inventory);
        let port = addresses.first().unwrap().1;
        assert!(addresses.iter().all(|(_, other)| *other == port), "the hosts differ by address alone");
        let config = format!(
            "Host *\n  User ops\n  Port {port}\n  IdentityFile {key}\n  IdentitiesOnly yes\n  UserKnownHostsFile {known}\n",
            key = sim.key.display(),
            known = dir.join("known_hosts").display(),
        );
        let names: Vec<_> = addresses.into_iter().map(|(address, _)| address).collect();
        let mut ini = String::from("[all]\n");
        for name in &names {
            writeln!(ini, "{name}").unwrap();
        }
        let ground = Self {
            sim,
            port,
            ssh_config: dir.join("ssh_config"),
            names: dir.join("names"),
            list: names.join(","),
            ini: dir.join("hosts.ini"),
        };
        fs::write(&ground.ssh_config, config).unwrap();
        fs::write(&ground.names, names.join("\n") + "\n").unwrap();
        fs::write(&ground.ini, ini).unwrap();
        ground
    }

    fn ssh_options(&self) -> String {
        format!("-F {}", self.ssh_config.display())
    }

    fn peers(&self, fanout: usize) -> [Peer<'_>; 5] {
        let many = fanout.to_string();
        let pssh = {
            let many = many.clone();
            move || {
                let mut command = Command::new("parallel-ssh");
                command.args(["-p", &many, "-t", "0", "-x", &self.ssh_options(), "-h"]).arg(&self.names).arg("true");
                command
            }
        };
        let pdsh = {
            let many = many.clone();
            move || {
                let mut command = Command::new("pdsh");
                command.env("PDSH_SSH_ARGS_APPEND", self.ssh_options());
                command.args([
                    "-S",
                    "-R",
                    "ssh",
                    "-l",
                    "ops",
                    "-f",
                    &many,
                    "-w",
                    &format!("^{}", self.names.display()),
                    "true",
                ]);
                command
            }
        };
        let clush = {
            let many = many.clone();
            move || {
                let mut command = Command::new("clush");
                command.args(["-S", "-f", &many, "-o", &self.ssh_options(), "-w", &self.list, "true"]);
                command
            }
        };
        let ansible = {
            let many = many.clone();
            move || {
                let mut command = Command::new("ansible");
                command.args([
                    "all",
                    "-m",
                    "raw",
                    "-a",
                    "true",
                    "-f",
                    &many,
                    "--ssh-common-args",
                    &self.ssh_options(),
                    "-i",
                ]);
                command.arg(&self.ini);
                command
            }
        };
        let library = move || {
            let mut command = Command::new("python3");
            command.args(["-c", PARALLEL_SSH]).arg(&self.names).args([&self.port.to_string(), "ops"]);
            command.arg(&self.sim.key).arg(&many);
            command
        };
        [
            ("pssh", &["parallel-ssh", "--version"], Box::new(pssh)),
            ("pdsh", &["pdsh", "-V"], Box::new(pdsh)),
            ("clush", &["clush", "--version"], Box::new(clush)),
            ("parallel-ssh", &["python3", "-c", "import pssh.clients"], Box::new(library)),
            ("ansible", &["ansible", "--version"], Box::new(ansible)),
        ]
    }
}
