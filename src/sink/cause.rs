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
    let words = text.split(' ').map(|word| {
        let core = word.trim_end_matches([':', ',', ';']);
        let is_host = [&host.name, &host.address, &known_hosts_name].iter().any(|name| *name == core)
            || core.parse::<SocketAddr>().is_ok()
            || core.parse::<IpAddr>().is_ok();
        match word.strip_prefix(core) {
            Some(punctuation) if is_host => format!("…{punctuation}"),
            _ => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}
