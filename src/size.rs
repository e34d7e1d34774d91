//! Sizes as people write them.

use crate::error::{Error, ErrorKind, Result};

const UNITS: [(&str, u64); 5] =
    [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("PiB", 1 << 50)];

/// Parses `64KiB`, `1.5MiB`, `2GiB` or a bare number of bytes, into bytes.
///
/// As the coreutils read sizes: `64K` is `64KiB`, and `64KB` is 64,000 bytes; here in capital or small letters.
///
/// # Errors
///
/// [`ErrorKind::Usage`], saying what may be written.
///
/// # Examples
///
/// ```
/// assert_eq!(fleet::parse_size("64KiB")?, 65_536);
/// assert_eq!(fleet::parse_size("1.5M")?, 1_572_864);
/// assert_eq!(fleet::parse_size("10")?, 10);
/// assert!(fleet::parse_size("much").is_err());
/// # Ok::<(), fleet::Error>(())
/// ```
pub fn parse_size(text: &str) -> Result<u64> {
    parse(text.trim()).ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("\"{text}\" is no size: write 64KiB, 10MiB, 2GiB or a number of bytes"))
    })
}

fn parse(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start().to_ascii_lowercase();
    let bytes_per_unit = match unit.as_str() {
        "" | "b" => return number.parse().ok(),
        "k" | "kib" => 1_u64 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    let bytes = (number * bytes_per_unit as f64).round();
    // Beyond that a float is not exact; no disk is that large.
    (bytes <= 9e15).then_some(bytes as u64)
}

/// Writes a size so that it reads back as it is: `64KiB`, `100000 bytes`.
pub(crate) fn exact_size(bytes: u64) -> String {
    let unit = UNITS.iter().rev().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match unit {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None if bytes == 1 => "1 byte".to_owned(),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_carry_units() {
        for (text, bytes) in [
            ("0", 0),
            ("7", 7),
            ("7B", 7),
            ("64KiB", 65_536),
            ("64k", 65_536),
            ("64 kB", 64_000),
            ("0.5MiB", 524_288),
            ("2GiB", 2_147_483_648),
            ("1t", 1 << 40),
        ] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "KiB", "-1", "1KiBB", "1e3", "1.5", "99999999T", "1.2.3K", ".", "inf", "64Kb/s"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_is_written_as_it_would_be_typed() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1 << 10, "1KiB"),
            (1_536, "1536 bytes"),
            (3 << 30, "3GiB"),
        ] {
            assert_eq!(exact_size(bytes), text);
        }
    }
}
