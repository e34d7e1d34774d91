//! What one output has other than another, as `diff -u` writes it.

use std::fmt::Write as _;
use std::io;
use std::ops::Range;

use imara_diff::{Algorithm, Diff, Hunk, InternedInput, Token, sources};

/// How many lines around a change are shown.
const CONTEXT: u32 = 3;

/// What a line of a unified diff is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// `@@ -1,3 +1,4 @@`.
    Place,
    Same,
    Removed,
    Added,
    /// What is said where the last line has no end.
    NoEnd,
}

/// Hands out the lines of a unified diff, each without its newline; none where there is no difference.
pub(super) fn unified(
    before: &[u8],
    after: &[u8],
    emit: &mut dyn FnMut(Sign, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let input = InternedInput::new(sources::byte_lines(before), sources::byte_lines(after));
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    let hunks: Vec<Hunk> = diff.hunks().collect();
    // Changes whose context would touch are shown as one.
    for near in hunks.chunk_by(|a, b| b.before.start - a.before.end <= 2 * CONTEXT) {
        let (Some(first), Some(last)) = (near.first(), near.last()) else { continue };
        let lead = first.before.start.min(CONTEXT);
        let trail = (input.before.len() as u32 - last.before.end).min(CONTEXT);
        let old = first.before.start - lead..last.before.end + trail;
        let new = first.after.start - lead..last.after.end + trail;
        emit(Sign::Place, format!("@@ -{} +{} @@", span(&old), span(&new)).as_bytes())?;
        let mut at = old.start;
        for hunk in near {
            lines(&input, &input.before, at..hunk.before.start, Sign::Same, emit)?;
            lines(&input, &input.before, hunk.before.clone(), Sign::Removed, emit)?;
            lines(&input, &input.after, hunk.after.clone(), Sign::Added, emit)?;
            at = hunk.before.end;
        }
        lines(&input, &input.before, at..old.end, Sign::Same, emit)?;
    }
    Ok(())
}

fn lines(
    input: &InternedInput<&[u8]>,
    tokens: &[Token],
    range: Range<u32>,
    sign: Sign,
    emit: &mut dyn FnMut(Sign, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let Range { start, end } = range;
    let Some(tokens) = tokens.get(start as usize..end as usize) else { return Ok(()) };
    for token in tokens {
        let line = input.interner[*token];
        match line.strip_suffix(b"\n") {
            Some(line) => emit(sign, line)?,
            None => {
                emit(sign, line)?;
                emit(Sign::NoEnd, b"\\ No newline at end of output")?;
            }
        }
    }
    Ok(())
}

/// Writes a range as `diff -u` does: the first line from 1 and how many, or the line before where there are none.
fn span(range: &Range<u32>) -> String {
    let len = range.end - range.start;
    let mut text = String::new();
    let _ = match len {
        0 => write!(text, "{},0", range.start),
        1 => write!(text, "{}", range.start + 1),
        _ => write!(text, "{},{len}", range.start + 1),
    };
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(before: &str, after: &str) -> String {
        let mut text = String::new();
        unified(before.as_bytes(), after.as_bytes(), &mut |sign, line| {
            let sign = match sign {
                Sign::Place | Sign::NoEnd => "",
                Sign::Same => " ",
                Sign::Removed => "-",
                Sign::Added => "+",
            };
            text.push_str(&format!("{sign}{}\n", String::from_utf8_lossy(line)));
            Ok(())
        })
        .unwrap();
        text
    }

    #[test]
    fn changes_have_context_and_far_ones_stand_apart() {
        let before: String = (1..=20).map(|n| format!("{n}\n")).collect();
        let after = before.replace("\n2\n", "\ntwo\n").replace("\n18\n", "\n");
        assert_eq!(
            text(&before, &after),
            "@@ -1,5 +1,5 @@\n 1\n-2\n+two\n 3\n 4\n 5\n@@ -15,6 +15,5 @@\n 15\n 16\n 17\n-18\n 19\n 20\n"
        );
        assert_eq!(text("", "a\n"), "@@ -0,0 +1 @@\n+a\n");
        assert_eq!(text("a\n", ""), "@@ -1 +0,0 @@\n-a\n");
        assert_eq!(text("a", "a\n"), "@@ -1 +1 @@\n-a\n\\ No newline at end of output\n+a\n");
        assert_eq!(text("a\nb\n", "a\nb\n"), "");
    }

    proptest! {
        /// What is not removed and what is added make the second; what is not added and what is removed the first, as far as
        /// the lines shown go.
        #[test]
        fn a_diff_leads_from_one_to_the_other(
            before in prop::collection::vec("[abc]", 0..30),
            after in prop::collection::vec("[abc]", 0..30),
        ) {
            let join = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
            let (mut at, mut rebuilt) = (0, Vec::new());
            unified(join(&before).as_bytes(), join(&after).as_bytes(), &mut |sign, line| {
                let line = String::from_utf8_lossy(line).into_owned();
                match sign {
                    Sign::Place => {
                        let old = line.split(['-', ',', ' ']).nth(2).unwrap().parse::<usize>().unwrap();
                        let is_empty = line.split(' ').nth(1).unwrap().ends_with(",0");
                        let start = if is_empty { old } else { old - 1 };
                        rebuilt.extend_from_slice(&before[at..start]);
                        at = start;
                    }
                    Sign::Same => {
                        assert_eq!(line, before[at]);
                        rebuilt.push(line);
                        at += 1;
                    }
                    Sign::Removed => {
                        assert_eq!(line, before[at]);
                        at += 1;
                    }
                    Sign::Added => rebuilt.push(line),
                    Sign::NoEnd => unreachable!("every line has an end"),
                }
                Ok(())
            }).unwrap();
            rebuilt.extend_from_slice(&before[at..]);
            prop_assert_eq!(rebuilt, after);
        }
    }
}
