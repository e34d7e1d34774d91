//! `fleet exec true` over many simulated hosts, beside a bare program of `ssh2` and threads, in one run.
//!
//! ```text
//! cargo bench --bench scale -- [--hosts 1000] [--fanout 64,1000] [--rounds 3]
//! ```
//!
//! A third row has fleet reach the same hosts through one OpenSSH bastion. All are whole processes against the same simulator (another process): wall and CPU time and peak memory are the kernel's
//! (`wait4`). The machines are shared and noisy: quote ratios of one run, never seconds of two.
#![expect(clippy::print_stdout, reason = "a report")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a failed measurement ends")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use cost::{Cost, measure, median, value};
use simulator::{Simulator, addresses};

mod cost;
mod simulator;
#[path = "../tests/common/sshd.rs"]
#[expect(dead_code, reason = "the measurement uses a part of the fixture")]
mod sshd;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if args.first().map(String::as_str) == Some("--bare") {
        return bare(&args);
    }
    let hosts: usize = value(&args, "--hosts", 1000);
    let rounds: usize = value(&args, "--rounds", 3);
    let fanouts: Vec<usize> = value(&args, "--fanout", "64,1000".to_owned())
        .split(',')
        .map(|text| text.parse().expect("--fanout N,N"))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let sim = Simulator::start(dir.path(), hosts);
    let public = std::fs::read_to_string(dir.path().join("id_ed25519.pub")).unwrap();
    let bastion = sshd::Sshd::builder().authorized_keys(&public).config("MaxStartups 10:30:100").start();
    let jump = format!("{}@127.0.0.1:{}", bastion.user(), bastion.port());
    println!("{hosts} simulated hosts, `true`, ed25519 key, {rounds} rounds, median");
    println!("{:<24} {:>8} {:>8} {:>10} {:>10}", "", "wall s", "cpu s", "cpu ms/host", "peak MB");
    for fanout in fanouts {
        let mut bare = Vec::new();
        let mut fleet = Vec::new();
        let mut behind = Vec::new();
        for _ in 0..rounds {
            bare.push(measure(bare_command(&sim, fanout)));
            fleet.push(measure(sim.fleet(fanout)));
            let mut command = sim.fleet(fanout);
            command.env("FLEET_JUMP", &jump);
            behind.push(measure(command));
        }
        let (bare, fleet, behind) = (median(bare), median(fleet), median(behind));
        show(&format!("bare ssh2, fanout {fanout}"), &bare, hosts);
        show(&format!("fleet, fanout {fanout}"), &fleet, hosts);
        show(&format!("by a bastion, fanout {fanout}"), &behind, hosts);
        let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
        println!("{:<24} {:>8.2} {:>8.2}", "fleet / bare", ratio(fleet.wall, bare.wall), ratio(fleet.cpu, bare.cpu));
        println!(
            "{:<24} {:>8.2} {:>8.2}",
            "bastion / direct",
            ratio(behind.wall, fleet.wall),
            ratio(behind.cpu, fleet.cpu)
        );
    }
}

fn show(name: &str, cost: &Cost, hosts: usize) {
    println!(
        "{name:<24} {:>8.2} {:>8.2} {:>10.2} {:>10.1}",
        cost.wall.as_secs_f64(),
        cost.cpu.as_secs_f64(),
        cost.cpu.as_secs_f64() * 1000.0 / hosts as f64,
        cost.peak_kb as f64 / 1024.0
    );
}

fn bare_command(sim: &Simulator, fanout: usize) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("--bare").arg(&sim.inventory).arg(&sim.key).arg(fanout.to_string());
    command
}

/// What one would write in an afternoon: a thread per worker, blocking `ssh2`, no host keys, no events.
fn bare(args: &[String]) {
    let key = std::fs::read_to_string(&args[2]).unwrap();
    let public = std::fs::read_to_string(format!("{}.pub", args[2])).unwrap();
    let fanout: usize = args[3].parse().unwrap();
    let queue = Mutex::new(addresses(Path::new(&args[1])).into_iter());
    std::thread::scope(|scope| {
        for _ in 0..fanout {
            std::thread::Builder::new()
                .stack_size(1024 * 1024)
                .spawn_scoped(scope, || {
                    loop {
                        let Some((host, port)) = queue.lock().unwrap().next() else { return };
                        let stream = TcpStream::connect((host.as_str(), port)).unwrap();
                        stream.set_nodelay(true).unwrap();
                        let mut session = ssh2::Session::new().unwrap();
                        session.set_tcp_stream(stream);
                        session.handshake().unwrap();
                        session.userauth_pubkey_memory("ops", Some(&public), &key, None).unwrap();
                        let mut channel = session.channel_session().unwrap();
                        channel.exec("true").unwrap();
                        let mut output = Vec::new();
                        channel.read_to_end(&mut output).unwrap();
                        channel.wait_close().unwrap();
                        assert_eq!(channel.exit_status().unwrap(), 0);
                        std::io::stdout().write_all(&output).unwrap();
                    }
                })
                .unwrap();
        }
    });
}
