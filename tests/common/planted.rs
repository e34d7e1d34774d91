//! Secrets that must be found nowhere, and where they are looked for.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is looked for, each under the name that a failing test shows.
pub(crate) struct Planted(Vec<(&'static str, String)>);

impl Planted {
    /// Makes one secret for each name, none of which occurs anywhere else.
    pub(crate) fn new(names: &[&'static str]) -> Self {
        // Tests of one process run beside each other, and one sees the processes that another starts.
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let (run, made) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        Self(names.iter().map(|name| (*name, format!("s3cret-{name}-{run}-{made}-xyzzy"))).collect())
    }

    pub(crate) fn get(&self, name: &str) -> &str {
        &self.0.iter().find(|(own, _)| *own == name).unwrap().1
    }

    /// Returns the names of those that stand in these bytes.
    pub(crate) fn found_in(&self, bytes: &[u8]) -> Vec<&'static str> {
        let stands = |secret: &str| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        self.0.iter().filter(|(_, secret)| stands(secret)).map(|(name, _)| *name).collect()
    }

    /// Returns the names of those that any file below a directory holds, but for files of these names.
    pub(crate) fn found_below(&self, dir: &Path, but: &[&str]) -> Vec<&'static str> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                found.extend(self.found_below(&path, but));
            } else if entry.file_type().unwrap().is_file() && but.iter().all(|name| path.file_name().unwrap() != *name)
            {
                found.extend(self.found_in(&fs::read(&path).unwrap()));
            }
        }
        found
    }

    /// Returns the names of those in the arguments of a process or its descendants, or in what these have in their environment.
    pub(crate) fn found_in_processes(&self, pid: u32) -> Vec<&'static str> {
        let mut found = self.found_in(&process(pid, "cmdline"));
        for child in children(pid) {
            found.extend(self.found_in(&process(child, "environ")));
            found.extend(self.found_in_processes(child));
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Reads a file of a process; one that has ended has none.
fn process(pid: u32, name: &str) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default()
}

/// Returns the processes that a process has started.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent = |child: u32| {
        // The name before it is in parentheses and may hold anything.
        let stat = String::from_utf8_lossy(&process(child, "stat")).into_owned();
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok())
    };
    pids.filter(|child| parent(*child) == Some(pid)).collect()
}
