//! Taking hosts out of a file: every other byte stays.

use std::collections::HashMap;

use super::parse::{self, Marker, Names};

/// Hosts by name, in lower case, each with the one key that may stay.
pub(super) type Replaced<'a> = HashMap<String, &'a [u8]>;

/// Returns the text of a file without those hosts' other keys: a plain name is taken out of its list, and a line that names
/// nobody else is left out. Lines with a marker or a pattern, and those that cannot be read, stay.
pub(super) fn without(text: &[u8], replaced: &Replaced<'_>) -> Vec<u8> {
    let mut kept = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        match parse::parse_line(0, line.strip_suffix(b"\n").unwrap_or(line)) {
            Ok(Some(parsed)) if parsed.marker == Marker::Plain => {
                let is_old = |name: &str| replaced.get(name).is_some_and(|blob| **blob != *parsed.blob);
                match &parsed.names {
                    Names::Plain(names) if names.iter().any(|name| is_old(name)) => {
                        if !names.iter().all(|name| is_old(name)) {
                            kept.extend(without_names(line, is_old));
                        }
                    }
                    Names::Hashed(hashed) if replaced.keys().any(|name| is_old(name) && hashed.matches(name)) => {}
                    _ => kept.extend(line),
                }
            }
            _ => kept.extend(line),
        }
    }
    kept
}

/// Takes names out of a line's list.
fn without_names(line: &[u8], is_out: impl Fn(&str) -> bool) -> Vec<u8> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
    let start = line.iter().position(|byte| !is_blank(byte)).unwrap_or(0);
    let (indent, line) = line.split_at(start);
    let (list, rest) = line.split_at(line.iter().position(is_blank).unwrap_or(line.len()));
    let stays = |name: &&[u8]| str::from_utf8(name).is_ok_and(|name| !is_out(&name.to_ascii_lowercase()));
    let names: Vec<&[u8]> = list.split(|&byte| byte == b',').filter(stays).collect();
    [indent, &names.join(&b','), rest].concat()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use hmac::{Hmac, Mac as _};
    use proptest::prelude::*;

    use super::*;

    fn blob(seed: u8) -> Vec<u8> {
        [&[0, 0, 0, 11][..], b"ssh-ed25519", &[0, 0, 0, 1, seed]].concat()
    }

    fn key(seed: u8) -> String {
        format!("ssh-ed25519 {}", STANDARD.encode(blob(seed)))
    }

    fn hashed(name: &str) -> String {
        let mut mac = Hmac::<sha1::Sha1>::new_from_slice(&[7; 20]).unwrap();
        mac.update(name.as_bytes());
        format!("|1|{}|{}", STANDARD.encode([7; 20]), STANDARD.encode(mac.finalize().into_bytes()))
    }

    fn remove(text: &str, name: &str) -> String {
        let new = blob(9);
        let replaced = Replaced::from([(name.to_owned(), new.as_slice())]);
        String::from_utf8(without(text.as_bytes(), &replaced)).unwrap()
    }

    #[test]
    fn a_host_leaves_every_line_that_names_it() {
        let (old, new) = (key(1), key(9));
        let text = format!(
            "# web1 {old}\nweb1 {old} gone\n \tWeb1,10.0.0.1,,x {old}  kept \r\n{} {old}\n{} {old}\nweb1 {new}\nweb10 {old}\n\
             @revoked web1 {old}\n@cert-authority web1 {old}\nweb?,!db {old}\nweb1 ssh-dss AAAA\nweb1 junk\nWEB1 {old}",
            hashed("web1"),
            hashed("web2"),
        );
        let expected = format!(
            "# web1 {old}\n \t10.0.0.1,,x {old}  kept \r\n{} {old}\nweb1 {new}\nweb10 {old}\n\
             @revoked web1 {old}\n@cert-authority web1 {old}\nweb?,!db {old}\nweb1 ssh-dss AAAA\nweb1 junk\n",
            hashed("web2"),
        );
        assert_eq!(remove(&text, "web1"), expected);
    }

    proptest! {
        #[test]
        fn what_names_somebody_else_stays_byte_for_byte(
            lines in proptest::collection::vec("[ab,*!@# \t|1]{0,8}( ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAAQE=)?[ \\PC]{0,9}\r?", 0..12),
            at in 0..12_usize,
        ) {
            let mut lines = lines;
            let before = lines.join("\n");
            prop_assert_eq!(&remove(&before, "web1"), &before);
            let at = at.min(lines.len());
            lines.insert(at, format!("web1 {}", key(1)));
            let with = lines.join("\n");
            lines.remove(at);
            let mut without = lines.join("\n");
            if at == lines.len() && at > 0 {
                // The end of the line before it stays.
                without.push('\n');
            }
            prop_assert_eq!(remove(&with, "web1"), without);
        }

        #[test]
        fn any_bytes_are_taken(bytes: Vec<u8>) {
            let new = blob(9);
            let replaced = Replaced::from([("web1".to_owned(), new.as_slice())]);
            prop_assert_eq!(without(&bytes, &replaced), bytes);
        }
    }
}
