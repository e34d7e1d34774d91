//! Finding and ending what the hosts started: by the `SSH_CONNECTION` in its environment, which names the host's address
//! and survives a shell's end, a new session and a new process group.

use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The processes (not zombies) whose `SSH_CONNECTION` ends with one of these server addresses.
pub(crate) fn of_servers(is_ours: impl Fn(SocketAddr) -> bool) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| server_of(*pid).is_some_and(&is_ours))
        .collect()
}

/// The server's address in a process's `SSH_CONNECTION`. A zombie has no environment.
fn server_of(pid: i32) -> Option<SocketAddr> {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = environ.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(b"SSH_CONNECTION="))?;
    let text = std::ffi::OsStr::from_bytes(value).to_str()?;
    let mut words = text.split(' ').skip(2);
    let ip = words.next()?.parse().ok()?;
    let port = words.next()?.parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

/// Kills what [`of_servers`] finds, until it finds nothing, for at most 2 s: a killed process ends when it next runs.
pub(crate) fn kill_all(is_ours: impl Fn(SocketAddr) -> bool) {
    let end = Instant::now() + Duration::from_secs(2);
    loop {
        let pids = of_servers(&is_ours);
        if pids.is_empty() || Instant::now() > end {
            return;
        }
        for pid in pids.into_iter().filter_map(Pid::from_raw) {
            // It may have ended in between.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
