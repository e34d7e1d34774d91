//! Simulated hosts in a process of their own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running simulator: its hosts take the ed25519 key in its directory, and answer every command at once.
pub(crate) struct Simulator {
    child: Child,
    pub(crate) inventory: PathBuf,
    pub(crate) key: PathBuf,
}

impl Simulator {
    pub(crate) fn start(dir: &Path, hosts: usize) -> Self {
        let mut path = PathBuf::from(env!("CARGO_BIN_EXE_fleet"));
        path.set_file_name("fleet-sim");
        assert!(path.exists(), "build the simulator first: cargo build --release -p fleet-sim");
        let mut child = Command::new(path)
            .args(["--hosts", &hosts.to_string(), "--canned", "--dir"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, inventory: PathBuf::from(line.trim()), key: dir.join("id_ed25519") }
    }

    /// The command `fleet exec FLAGS true` on all hosts, without what the user's own home says.
    pub(crate) fn fleet(&self, fanout: usize) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleet"));
        command.arg("exec").arg("-i").arg(&self.inventory).args(["-f", &fanout.to_string(), "true"]);
        command.env("HOME", self.key.parent().unwrap());
        command
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Reads the addresses that a simulator's inventory names.
pub(crate) fn addresses(inventory: &Path) -> Vec<(String, u16)> {
    let inventory = std::fs::read_to_string(inventory).unwrap();
    let mut addresses = Vec::new();
    let mut address = None;
    for line in inventory.lines() {
        if line.starts_with("address") {
            address = line.split('"').nth(1).map(str::to_owned);
        } else if line.starts_with("port") {
            let port = line.split('=').nth(1).unwrap().trim().parse().unwrap();
            addresses.push((address.take().unwrap(), port));
        }
    }
    addresses
}
