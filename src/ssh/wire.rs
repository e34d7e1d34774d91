//! Numbers and strings as SSH writes them (RFC 4251 section 5).

/// Takes a 32-bit number off the front.
pub(super) fn number(rest: &mut &[u8]) -> Option<u32> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(u32::from_be_bytes(*head))
}

/// Takes a string off the front.
pub(super) fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(number(rest)?).ok()?;
    let (string, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(string)
}

/// Writes a string with its length.
pub(super) fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    out.extend(u32::try_from(string.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(string);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_more() {
        let mut bytes = Vec::new();
        put_string(&mut bytes, b"abc");
        bytes.push(7);
        let mut rest = bytes.as_slice();
        assert_eq!(string(&mut rest), Some(&b"abc"[..]));
        assert_eq!(rest, [7]);
        assert_eq!(string(&mut rest), None);
        assert_eq!(string(&mut &[0, 0, 0, 9, 1][..]), None, "longer than what is there");
    }
}
