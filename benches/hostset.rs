//! Names by the hundred thousand: folded, expanded and selected, beside ClusterShell's `nodeset` in one run.
//!
//! ```text
//! cargo bench --bench hostset -- [--names 100000] [--rounds 5]
//! ```
//!
//! `library` is the call alone, `fleet` and `nodeset` are whole processes that read names from standard input: wall time, then processor time and
//! peak memory in MB. The inventory is loaded and
//! everything selected by the library. The machines are shared and noisy: quote ratios of one run, never seconds of two.
#![expect(clippy::print_stdout, reason = "a report")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed measurement ends")]

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use clustershell::of_clustershell;
use cost::{Cost, measure, median, value};
use fleet::inventory::Selector;
use fleet::{Inventory, hostset};

mod clustershell;
mod cost;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let count: usize = value(&args, "--names", 100_000);
    let rounds: usize = value(&args, "--rounds", 5);
    let dir = tempfile::tempdir().unwrap();
    println!("{count} names, {rounds} rounds, median seconds");
    println!("{:<34} {:>9} {:>9} {:>9} {:>11} {:>11}", "", "library", "fleet", "nodeset", "fleet", "nodeset");
    for (kind, names) in [("grid", grid(count)), ("shuffled", shuffled(count)), ("without numbers", words(count))] {
        both_ways(kind, &names, rounds, dir.path());
    }
    println!();
    println!("{:<44} {:>9} {:>9} {:>9}", "inventory of as many hosts", "load", "select", "both");
    for (kind, text) in inventories(count) {
        let path = dir.path().join("hosts.toml");
        std::fs::write(&path, &text).unwrap();
        load_and_select(&format!("{kind}, {:.1} MB", text.len() as f64 / 1e6), &path, count, rounds);
    }
}

/// `r1n001` and so on, a hundred nodes a rack: folds in both numbers.
fn grid(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("r{}n{:03}", n / 100 + 1, n % 100 + 1)).collect()
}

/// Every other number of twice as many, in no order.
fn shuffled(count: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..count).map(|n| format!("node{}", n * 2)).collect();
    fastrand::Rng::with_seed(7).shuffle(&mut names);
    names
}

/// Names that cannot be folded.
fn words(count: usize) -> Vec<String> {
    let letters = |mut n: usize| {
        let mut word = String::from("host-");
        for _ in 0..4 {
            word.push(char::from(b'a' + u8::try_from(n % 26).unwrap()));
            n /= 26;
        }
        word
    };
    (0..count).map(letters).collect()
}

fn both_ways(kind: &str, names: &[String], rounds: usize, dir: &Path) {
    let folded = hostset::fold(names);
    assert_eq!(hostset::expand(&folded).unwrap().len(), names.len(), "{kind}");
    let list = dir.join("names");
    std::fs::write(&list, names.join("\n") + "\n").unwrap();
    let hostset = dir.join("hostset");
    std::fs::write(&hostset, format!("{folded}\n")).unwrap();

    let library = times(rounds, || drop(hostset::fold(names)));
    row(&format!("fold, {kind}"), library, &fleet("-f", &list, rounds), &["nodeset", "-f"], &list, rounds);
    let library = times(rounds, || drop(hostset::expand(&folded).unwrap()));
    row(&format!("expand, {kind}"), library, &fleet("-e", &hostset, rounds), &["nodeset", "-e"], &hostset, rounds);
}

fn row(name: &str, library: Duration, fleet: &Cost, nodeset: &[&str], input: &Path, rounds: usize) {
    let seconds = |time: Duration| format!("{:.3}", time.as_secs_f64());
    let rest = |cost: &Cost| format!("{:.2} {:>5.0}", cost.cpu.as_secs_f64(), cost.peak_kb as f64 / 1024.0);
    let nodeset = of_clustershell(nodeset, input, rounds);
    let (wall, memory) = nodeset.map_or(("-".to_owned(), "-".to_owned()), |cost| (seconds(cost.wall), rest(&cost)));
    println!(
        "{name:<34} {:>9} {:>9} {wall:>9} {:>11} {memory:>11}",
        seconds(library),
        seconds(fleet.wall),
        rest(fleet)
    );
}

fn fleet(flag: &str, input: &Path, rounds: usize) -> Cost {
    let one = |_| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleet"));
        command.args(["hosts", "-i", "none", "-w", "-", flag]).stdin(File::open(input).unwrap());
        measure(command)
    };
    median((0..rounds).map(one).collect())
}

fn times(rounds: usize, mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort();
    times.swap_remove(rounds / 2)
}

/// The same number of hosts, written in every way that an inventory allows.
fn inventories(count: usize) -> [(&'static str, String); 4] {
    let one = format!("[groups.all-of-them]\nhosts = [\"n[00001-{count:05}]\"]\n");
    let mut names = String::from("[groups.all-of-them]\nhosts = [\n");
    let mut tables = String::from("[defaults]\nuser = \"ops\"\n");
    let mut full = tables.clone();
    for n in 1..=count {
        // Writing to a String cannot fail.
        let _ = writeln!(names, "    \"n{n:05}\",");
        let _ = writeln!(tables, "\n[hosts.n{n:05}]\naddress = \"10.{}.{}.{}\"", n >> 16, n >> 8 & 255, n & 255);
        let _ = writeln!(full, "\n[hosts.n{n:05}]\naddress = \"10.{}.{}.{}\"", n >> 16, n >> 8 & 255, n & 255);
        let _ = writeln!(full, "port = {}\nvars = {{ rack = \"r{}\" }}", 2200 + n % 10, n / 40);
    }
    names.push_str("]\n");
    [("one hostset", one), ("single names", names), ("tables with an address", tables), ("and port and vars", full)]
}

fn load_and_select(kind: &str, path: &Path, count: usize, rounds: usize) {
    let (mut loads, mut selects) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = Instant::now();
        let inventory = Inventory::load(path).unwrap_or_else(|error| panic!("{}", error.chain()));
        loads.push(start.elapsed());
        let start = Instant::now();
        let targets = inventory.select(&Selector::default()).unwrap();
        selects.push(start.elapsed());
        assert_eq!(targets.len(), count);
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times.swap_remove(rounds / 2).as_secs_f64()
    };
    let (load, select) = (median(loads), median(selects));
    println!("{kind:<44} {load:>9.3} {select:>9.3} {:>9.3}", load + select);
}
