//! How flags' values are read.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::FalseyValueParser;
use fleet::pool::{Threshold, Wave};
use fleet::{BecomeBy, HostKeyPolicy};

/// In which order the hosts are started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    #[default]
    File,
    Name,
    Random,
}

/// Where progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgressWhen {
    Auto,
    Always,
    Never,
}

/// Reads when progress is shown; the environment may have a switch there.
pub(super) fn progress(text: &str) -> Result<ProgressWhen, &'static str> {
    match text {
        "auto" => Ok(ProgressWhen::Auto),
        "always" | "1" | "true" | "yes" | "on" => Ok(ProgressWhen::Always),
        "never" | "" | "0" | "false" | "no" | "off" => Ok(ProgressWhen::Never),
        _ => Err("write one of auto, always, never"),
    }
}

/// Reads a switch from the environment: `0`, `false`, `no`, `off` and nothing are off.
pub(crate) fn flag() -> FalseyValueParser {
    FalseyValueParser::new()
}

pub(super) fn duration(text: &str) -> Result<Duration, fleet::Error> {
    fleet::parse_duration(text)
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match fleet::parse_duration(text) {
        Ok(Duration::ZERO) => Err("it must be more than 0".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.chain()),
    }
}

pub(super) fn size(text: &str) -> Result<u64, fleet::Error> {
    fleet::parse_size(text)
}

pub(super) fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "write a whole number".to_owned())
}

pub(super) fn positive(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "write a whole number from 1 on".to_owned())
}

pub(super) fn login_name(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("write a login name") } else { Ok(text.to_owned()) }
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| "write a number from 1 to 65535".to_owned())
}

pub(super) fn host_key(text: &str) -> Result<HostKeyPolicy, String> {
    HostKeyPolicy::from_name(text).ok_or_else(|| format!("write one of {}", HostKeyPolicy::NAMES.join(", ")))
}

pub(super) fn become_by(text: &str) -> Result<BecomeBy, String> {
    BecomeBy::from_name(text).ok_or_else(|| format!("write {}", BecomeBy::NAMES.join(" or ")))
}

pub(super) fn threshold(text: &str) -> Result<Threshold, String> {
    let (number, is_percent) = match text.strip_suffix('%') {
        Some(number) => (number, true),
        None => (text, false),
    };
    let parsed = match is_percent {
        true => number.parse().ok().filter(|percent| *percent <= 100).map(Threshold::Percent),
        false => number.parse().ok().map(Threshold::Count),
    };
    parsed.ok_or_else(|| "write a number of hosts, such as 3, or a part of them from 0% to 100%".to_owned())
}

pub(super) fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    let parsed = number.parse().ok().filter(|percent| *percent <= 100);
    parsed.ok_or_else(|| "write a part from 0% to 100%".to_owned())
}

pub(super) fn wave(text: &str) -> Result<Wave, String> {
    let text = text.trim();
    let parsed = match text.strip_suffix('%') {
        Some(number) => number.parse().ok().filter(|percent| (1..=100).contains(percent)).map(Wave::Percent),
        None => text.parse().ok().filter(|count| *count > 0).map(Wave::Count),
    };
    parsed.ok_or_else(|| "write numbers of hosts or parts of them, such as 1,10%,50%".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_a_number_or_a_part() {
        assert_eq!(threshold("3"), Ok(Threshold::Count(3)));
        assert_eq!(threshold("10%"), Ok(Threshold::Percent(10)));
        for text in ["", "%", "-1", "101%", "1.5", "many"] {
            assert!(threshold(text).is_err(), "{text}");
        }
    }
}
