//! How a line is taken apart: `strdelim` and `argv_split` of OpenSSH's misc.c.

const WHITESPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// Takes the next word: `rest` is left behind it, and is none after the last.
///
/// Words end at white space, at one `=` among it, and at quotes. Returns none for an open quote and behind the end.
pub(super) fn next_word(rest: &mut Option<&str>) -> Option<String> {
    let text = rest.take()?;
    let Some((before, at, after)) = split_at_any(text, |c| WHITESPACE.contains(&c) || c == '"' || c == '=') else {
        return Some(text.to_owned());
    };
    if at == '"' {
        let (quoted, after) = after.split_once('"')?;
        *rest = Some(after.trim_start_matches(WHITESPACE));
        return Some(format!("{before}{quoted}"));
    }
    let mut after = after.trim_start_matches(WHITESPACE);
    if at != '='
        && let Some(value) = after.strip_prefix('=')
    {
        after = value.trim_start_matches(WHITESPACE);
    }
    *rest = Some(after);
    Some(before.to_owned())
}

fn split_at_any(text: &str, is_end: impl Fn(char) -> bool) -> Option<(&str, char, &str)> {
    let index = text.find(is_end)?;
    let (before, rest) = text.split_at_checked(index)?;
    let mut chars = rest.chars();
    let at = chars.next()?;
    Some((before, at, chars.as_str()))
}

/// Takes the keyword off a line, in lower case; none for an empty line or a comment.
pub(super) fn keyword(line: &str) -> Option<(String, &str)> {
    let line = line.trim_end_matches(|c| WHITESPACE.contains(&c) || c == '\u{c}');
    let mut rest = Some(line);
    let mut word = next_word(&mut rest)?;
    if word.is_empty() {
        word = next_word(&mut rest)?;
    }
    if word.is_empty() || word.starts_with('#') {
        return None;
    }
    Some((word.to_lowercase(), rest.unwrap_or_default().trim_start_matches(WHITESPACE)))
}

/// Splits arguments at blanks, with `'…'`, `"…"` and backslashes, up to a comment; none for an open quote.
pub(super) fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
        if matches!(chars.peek(), None | Some('#')) {
            return Some(words);
        }
        let mut word = String::new();
        let mut quote = None;
        while let Some(c) = chars.next() {
            match c {
                '\\' => {
                    let is_escape =
                        |next: &char| matches!(next, '\'' | '"' | '\\') || (quote.is_none() && *next == ' ');
                    word.push(chars.next_if(is_escape).unwrap_or('\\'));
                }
                ' ' | '\t' if quote.is_none() => break,
                '"' | '\'' if quote.is_none() => quote = Some(c),
                _ if quote == Some(c) => quote = None,
                _ => word.push(c),
            }
        }
        if quote.is_some() {
            return None;
        }
        words.push(word);
    }
}
