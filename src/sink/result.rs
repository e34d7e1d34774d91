//! What the forms for programs say of a host that is done.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::error::Phase;
use crate::event::HostReport;
use crate::record::Record;

/// The fields of a result: one host, as `finished` of the JSON form and each line of the JSON lines form have it.
#[derive(Serialize)]
pub(super) struct ResultFields<'a> {
    pub(super) host: &'a str,
    pub(super) status: &'a str,
    pub(super) exit_code: Option<i32>,
    pub(super) signal: Option<&'a str>,
    pub(super) phase: Option<&'a str>,
    pub(super) error: Option<String>,
    pub(super) killed: Option<&'a str>,
    pub(super) attempts: u32,
    pub(super) queued_s: f64,
    pub(super) duration_s: f64,
    phases: Phases<'a>,
    pub(super) stdout_bytes: u64,
    pub(super) stderr_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) files: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<u64>,
}

impl<'a> ResultFields<'a> {
    /// Takes a report apart; what was moved is told where something was, and always of a transfer.
    pub(super) fn of(report: &'a HostReport, is_transfer: bool) -> Self {
        let facts = &report.facts;
        let shows_transfer = is_transfer || facts.files + facts.transferred_bytes > 0;
        Self {
            host: &report.host.name,
            status: report.class().as_str(),
            exit_code: facts.exit_code,
            signal: facts.signal.as_deref(),
            phase: report.phase().map(Phase::as_str),
            error: report.error.as_ref().map(crate::Error::chain).or_else(|| facts.reason.clone()),
            killed: facts.killed,
            attempts: report.attempts,
            queued_s: seconds(report.queued),
            duration_s: seconds(report.duration),
            phases: Phases(&report.phases),
            stdout_bytes: facts.stdout_bytes,
            stderr_bytes: facts.stderr_bytes,
            files: shows_transfer.then_some(facts.files),
            bytes: shows_transfer.then_some(facts.transferred_bytes),
        }
    }
}

/// Tells whether an operation of this name moves files.
pub(super) fn is_transfer(op: &str) -> bool {
    matches!(op, "put" | "get")
}

/// The time in each phase, all attempts together.
struct Phases<'a>(&'a [(Phase, Duration)]);

impl Serialize for Phases<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sums: Vec<(Phase, Duration)> = Vec::with_capacity(self.0.len());
        for (phase, duration) in self.0 {
            match sums.iter_mut().find(|(known, _)| known == phase) {
                Some((_, sum)) => *sum += *duration,
                None => sums.push((*phase, *duration)),
            }
        }
        let mut map = serializer.serialize_map(Some(sums.len()))?;
        for (phase, sum) in sums {
            map.serialize_entry(phase.as_str(), &seconds(sum))?;
        }
        map.end()
    }
}

/// A record as an object: each value is a text, `null`, or `{"base64": …}` where it is not UTF-8.
pub(super) struct RecordFields<'a>(pub(super) &'a Record);

impl Serialize for RecordFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value.map(Value::of))))
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Text(&'a str),
    Bytes { base64: String },
}

impl<'a> Value<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(_) => Self::Bytes { base64: BASE64.encode(bytes) },
        }
    }
}

/// Returns seconds to a tenth of a millisecond: finer ones would be written with an exponent.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 1e4
}

/// Writes a time as RFC 3339 has it, in UTC.
pub(super) fn timestamp(time: SystemTime) -> String {
    Timestamp::try_from(time).map(|time| format!("{time:.6}")).unwrap_or_default()
}
