//! Host names as file names.

use sha2::{Digest as _, Sha256};

use crate::event::Stream;

/// The longest stem, in bytes: with what follows it stays below the 255 of every file system.
const MAX_STEM: usize = 200;

/// How much of a longer one is kept before its hash.
const KEPT: usize = 160;

/// Returns the name of a stream's file.
pub(super) fn of(stem: &str, stream: Stream) -> String {
    format!("{stem}.{}", stream.as_str())
}

/// Returns what the names of a host's files begin with: one component that leads nowhere else, is not hidden, is no flag to a
/// program, and is another one for another host.
pub(super) fn stem(host: &str) -> String {
    let mut stem = String::with_capacity(host.len());
    for (at, c) in host.char_indices() {
        let is_plain = c.is_alphanumeric() || "_@+=".contains(c) || (at > 0 && "-.".contains(c));
        if is_plain {
            stem.push(c);
        } else {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                stem.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    if stem.is_empty() {
        stem.push('%');
    }
    if stem.len() > MAX_STEM {
        let cut = (0..=KEPT).rev().find(|at| stem.is_char_boundary(*at)).unwrap_or(0);
        stem.truncate(cut);
        let hash = Sha256::digest(host.as_bytes());
        let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        stem.push_str(&format!("~{hex}"));
    }
    stem
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn plain_names_stay_and_others_are_written_safely() {
        for (host, expected) in [
            ("web01.example.com", "web01.example.com"),
            ("root@web-1_x", "root@web-1_x"),
            ("bücher", "bücher"),
            ("..", "%2E."),
            (".ssh", "%2Essh"),
            ("-rf", "%2Drf"),
            ("a/b", "a%2Fb"),
            ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
            ("[::1]", "%5B%3A%3A1%5D"),
            ("a%2Fb", "a%252Fb"),
            ("a~b", "a%7Eb"),
            ("a\0b\n", "a%00b%0A"),
            ("€", "%E2%82%AC"),
            ("", "%"),
        ] {
            assert_eq!(stem(host), expected);
        }
    }

    #[test]
    fn long_names_fit_and_differ() {
        let long = |last: char| format!("{}{last}", "ü".repeat(300));
        let (a, b) = (stem(&long('a')), stem(&long('b')));
        assert!(a != b && a.len() <= MAX_STEM && b.len() <= MAX_STEM, "{a} {b}");
        assert_eq!(stem(&"x".repeat(MAX_STEM)), "x".repeat(MAX_STEM));
    }

    #[test]
    fn random_names_are_single_components_and_never_the_same() {
        let mut random = fastrand::Rng::with_seed(11);
        let alphabet: Vec<char> = "ab/.%~-:[]é€ \n\\\u{202e}2F".chars().collect();
        let mut hosts = HashSet::new();
        let mut stems = HashSet::new();
        for _ in 0..20_000 {
            let len = if random.u8(..) == 0 { random.usize(60..90) } else { random.usize(0..5) };
            let host: String = (0..len).filter_map(|_| random.choice(&alphabet)).collect();
            let stem = stem(&host);
            assert!(!stem.is_empty() && !stem.contains(['/', '\0', '\n']) && !stem.starts_with(['.', '-']), "{stem:?}");
            assert!(stem.len() <= MAX_STEM);
            assert_eq!(hosts.insert(host), stems.insert(stem));
        }
    }
}
