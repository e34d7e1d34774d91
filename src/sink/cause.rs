//! Why hosts did not end well, in words that hosts with the same trouble share.

use std::net::{IpAddr, SocketAddr};

use crate::error::ErrorKind;
use crate::event::{Class, HostReport};
use crate::host::Host;

/// Returns the cause to group by: the reason without what differs from host to host.
pub(super) fn cause(report: &HostReport) -> String {
    let class = report.class();
    // Why a stopped run did not start a host has been said; why a secret was not tried has not.
    let is_by_breaker = report.error.as_ref().is_some_and(|error| error.kind() == ErrorKind::Breaker);
    let is_told = class != Class::NotStarted || is_by_breaker;
    let reason = report.reason().filter(|reason| is_told && *reason != words(class));
    let cause = without_host(&reason.unwrap_or_default(), &report.host);
    match (&report.error, cause.split_once(": ")) {
        // What follows are fingerprints.
        (Some(error), Some((what, _))) if error.kind() == ErrorKind::HostKey => what.to_owned(),
        _ => cause,
    }
}

/// Writes how a host ended, for people: `timed out`.
pub(super) fn words(class: Class) -> String {
    class.as_str().replace('_', " ")
}

/// Replaces names and addresses by `…`.
fn without_host(text: &str, host: &Host) -> String {
    let known_hosts_name = host.known_hosts_name();
    let is_own = |text: &str| [&host.name, &host.address, &known_hosts_name].iter().any(|name| *name == text);
    let is_host = |text: &str| {
        let is_port = |port: &str| port.parse::<u16>().is_ok();
        is_own(text)
            || text.parse::<SocketAddr>().is_ok()
            || text.parse::<IpAddr>().is_ok()
            || text.rsplit_once(':').is_some_and(|(name, port)| is_own(name) && is_port(port))
    };
    let one = |word: &str| {
        let core = word.trim_end_matches([':', ',', ';']);
        let rest = word.get(core.len()..).unwrap_or_default();
        if is_host(core) {
            return format!("…{rest}");
        }
        // A file of the host's, as in `out/web01/log`.
        let parts: Vec<&str> = core.split('/').map(|part| if part == host.name { "…" } else { part }).collect();
        parts.join("/") + rest
    };
    text.split(' ').map(one).collect::<Vec<_>>().join(" ")
}
