//! Who is still running, and where: for Enter and for Ctrl-C.

use std::collections::HashMap;
use std::time::Duration;

use fleet::Phase;
use fleet::pool::RunControl;
use fleet::sink::fold_names;

/// Returns a line for each phase that hosts are in, the one with the host that has run longest first.
pub(crate) fn lines(control: &RunControl) -> Vec<String> {
    let in_flight = control.in_flight();
    let hosts: Vec<_> =
        in_flight.iter().map(|flight| (flight.phase, flight.since.elapsed(), flight.host.name.as_str())).collect();
    by_phase(&hosts)
}

fn by_phase(hosts: &[(Phase, Duration, &str)]) -> Vec<String> {
    let mut phases: HashMap<Phase, Vec<(Duration, &str)>> = HashMap::new();
    for (phase, elapsed, name) in hosts {
        phases.entry(*phase).or_default().push((*elapsed, name));
    }
    let mut told: Vec<(Duration, String)> = phases
        .into_iter()
        .filter_map(|(phase, hosts)| {
            let (longest, name) = hosts.iter().copied().max_by_key(|(elapsed, _)| *elapsed)?;
            let names = fold_names(hosts.iter().map(|(_, name)| *name));
            let seconds = longest.as_secs();
            let line = match hosts.len() {
                1 => format!("{phase} 1: {names} ({seconds}s)"),
                count => format!("{phase} {count}: {names} (longest {seconds}s: {name})"),
            };
            Some((longest, line))
        })
        .collect();
    told.sort_by(|a, b| b.cmp(a));
    told.into_iter().map(|(_, line)| line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_folded_by_phase_and_the_longest_comes_first() {
        let seconds = Duration::from_secs;
        let hosts = [
            (Phase::Running, seconds(3), "web01"),
            (Phase::Login, seconds(34), "db1"),
            (Phase::Running, seconds(9), "web02"),
            (Phase::Running, seconds(9), "web03"),
        ];
        assert_eq!(by_phase(&hosts), ["login 1: db1 (34s)", "running 3: web[01-03] (longest 9s: web03)"]);
        assert!(by_phase(&[]).is_empty());
    }
}
