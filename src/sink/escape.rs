//! Control characters made visible: a host must not be able to steer the terminal of whoever reads its output.

use std::borrow::Cow;
use std::fmt::Write;

/// Makes control characters visible in a message that is one line: `\n` and `\x1b` are written out.
///
/// Covers C0, DEL, C1, the line separators and the characters that change the direction of text. A tab becomes `\t`.
///
/// # Examples
///
/// ```
/// assert_eq!(fleet::sink::escape("disk full"), "disk full");
/// assert_eq!(fleet::sink::escape("a\n\u{1b}[2Jb"), r"a\n\x1b[2Jb");
/// ```
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| is_control(c) || c == '\t') {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c => push(&mut escaped, c),
        }
    }
    Cow::Owned(escaped)
}

/// Appends one line of remote output as a terminal may show it; tabs stay, bytes that are not UTF-8 become `\xNN`.
pub(super) fn append_visible(out: &mut Vec<u8>, line: &[u8]) {
    if line.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
        out.extend_from_slice(line);
        return;
    }
    let mut text = String::with_capacity(line.len() + 16);
    for chunk in line.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\t' { text.push(c) } else { push(&mut text, c) }
        }
        for byte in chunk.invalid() {
            push_hex(&mut text, *byte);
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// Writes bytes as one line that a terminal may show: as [`escape`] does, and bytes that are not UTF-8 as `\xNN`.
pub(super) fn cell(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&escape(chunk.valid()));
        for byte in chunk.invalid() {
            push_hex(&mut text, *byte);
        }
    }
    text
}

/// Replaces the control characters that JSON leaves as they are by `\uXXXX`, which reads back as the same character; from the
/// byte `start` on.
pub(super) fn escape_json(json: &mut Vec<u8>, start: usize) {
    let Some(Ok(text)) = json.get(start..).map(std::str::from_utf8) else { return };
    if !text.chars().any(is_control) {
        return;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_control(c) {
            // Every one of them is in the basic plane: one escape is enough.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    json.truncate(start);
    json.extend_from_slice(escaped.as_bytes());
}

fn push(text: &mut String, c: char) {
    match u8::try_from(c) {
        Ok(byte) if is_control(c) && byte < 0x80 => push_hex(text, byte),
        _ if is_control(c) => {
            let _ = write!(text, "\\u{{{:x}}}", u32::from(c));
        }
        _ => text.push(c),
    }
}

fn push_hex(text: &mut String, byte: u8) {
    let _ = write!(text, "\\x{byte:02x}");
}

/// Tells whether a terminal would act on a character instead of showing it.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visible(line: &[u8]) -> String {
        let mut out = Vec::new();
        append_visible(&mut out, line);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_would_steer_a_terminal_is_written_out() {
        assert_eq!(visible(b"plain\ttext"), "plain\ttext");
        assert_eq!(visible(b"\x1b]0;owned\x07"), r"\x1b]0;owned\x07");
        assert_eq!(visible("\u{9b}2J".as_bytes()), r"\u{9b}2J");
        assert_eq!(visible("a\u{202e}b".as_bytes()), r"a\u{202e}b");
        assert_eq!(visible("grün €".as_bytes()), "grün €");
    }

    #[test]
    fn bytes_that_are_no_text_are_written_out() {
        assert_eq!(visible(b"a\xff\xc3b"), r"a\xff\xc3b");
    }

    #[test]
    fn escaped_json_reads_back_as_the_same_text() {
        let text = "a\u{9b}\u{7f}\u{202e}ü";
        let mut json = b"x\n".to_vec();
        json.extend(serde_json::to_vec(text).unwrap());
        escape_json(&mut json, 2);
        let json = String::from_utf8(json).unwrap().split_off(2);
        assert!(!json.chars().any(is_control), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
