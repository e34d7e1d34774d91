//! Durations as people write them.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// Parses `500ms`, `10s`, `5m`, `2h` or a bare number of seconds.
///
/// # Errors
///
/// [`ErrorKind::Usage`], saying what may be written.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// assert_eq!(fleet::parse_duration("5m")?, Duration::from_secs(300));
/// assert_eq!(fleet::parse_duration("1.5s")?, Duration::from_millis(1500));
/// assert_eq!(fleet::parse_duration("10")?, Duration::from_secs(10));
/// assert!(fleet::parse_duration("soon").is_err());
/// # Ok::<(), fleet::Error>(())
/// ```
pub fn parse_duration(text: &str) -> Result<Duration> {
    parse(text.trim()).ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("\"{text}\" is no duration: write 500ms, 10s, 5m, 2h or whole seconds"))
    })
}

fn parse(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let seconds_per_unit = match unit.trim_start() {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    let millis = (number * seconds_per_unit * 1000.0).round();
    // A century is longer than any wait, and far from where arithmetic on instants overflows.
    (millis <= 3.2e12).then(|| Duration::from_millis(millis as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_units() {
        for (text, millis) in
            [("0", 0), ("7", 7000), ("500ms", 500), ("0.25s", 250), ("5m", 300_000), ("2 h", 7_200_000)]
        {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for text in ["", "s", "-1", "1d", "1e3", "1s2", "99999999999999999h", "1.2.3s", ".", "inf"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
