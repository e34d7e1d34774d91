//! What a process costs, as the kernel counts it.

use std::fmt::Debug;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) peak_kb: i64,
}

/// Runs a command to its end; what it writes to standard output is thrown away, and it must end well.
pub(crate) fn measure(mut command: Command) -> Cost {
    let start = Instant::now();
    #[expect(clippy::zombie_processes, reason = "wait4 below waits for it, with its resource usage")]
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    let mut stderr = child.stderr.unwrap();
    let mut said = String::new();
    let reader = std::thread::spawn(move || {
        let _ = stderr.read_to_string(&mut said);
        said
    });
    let mut status = 0;
    // SAFETY: plain integers, filled by wait4 below.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `pid` is a child that nobody else waits for; both pointers are valid for the call.
    let rc = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    assert_eq!(rc, pid);
    let wall = start.elapsed();
    let said = reader.join().unwrap();
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "it failed: {said}");
    let time =
        |time: libc::timeval| Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_usec).unwrap() * 1000);
    Cost { wall, cpu: time(usage.ru_utime) + time(usage.ru_stime), peak_kb: usage.ru_maxrss }
}

pub(crate) fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by_key(|cost| cost.wall);
    let middle = costs.len() / 2;
    costs.swap_remove(middle)
}

/// Returns the value of an argument of this program.
pub(crate) fn value<T: FromStr<Err: Debug>>(args: &[String], name: &str, default: T) -> T {
    let given = args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    given.map_or(default, |text| text.parse().unwrap())
}
