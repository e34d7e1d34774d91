//! What a script's first line says.

use crate::error::{Error, ErrorKind, Result};

/// Returns the interpreter's words: those of `#!`, as Linux reads it (execve(2): one argument at most), else `sh`.
///
/// # Errors
/// `Usage` when the line ends with a carriage return: the system would look for an interpreter of that name.
pub(super) fn of(text: &[u8]) -> Result<Vec<Vec<u8>>> {
    let Some(rest) = text.strip_prefix(b"#!") else { return Ok(vec![b"sh".to_vec()]) };
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.ends_with(b"\r") {
        return Err(Error::new(ErrorKind::Usage, "the script's first line ends with a carriage return, as in DOS"));
    }
    if line.contains(&0) {
        return Err(Error::new(ErrorKind::Usage, "the script's first line has a zero byte"));
    }
    let line = line.trim_ascii();
    let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(line.len());
    let (program, argument) = line.split_at(end);
    if program.is_empty() {
        return Ok(vec![b"sh".to_vec()]);
    }
    let mut words = vec![program.to_vec()];
    let argument = argument.trim_ascii();
    if !argument.is_empty() {
        words.push(argument.to_vec());
    }
    if is_node(program, argument) {
        // Node looks where a script's name leads to, and that is nowhere any more.
        words.push(b"--preserve-symlinks-main".to_vec());
    }
    Ok(words)
}

fn is_node(program: &[u8], argument: &[u8]) -> bool {
    let base = |path: &[u8]| path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
    let is_node = |name: &[u8]| matches!(name, b"node" | b"nodejs");
    let first = argument.split(u8::is_ascii_whitespace).find(|word| !word.starts_with(b"-"));
    is_node(&base(program)) || (base(program) == b"env" && first.is_some_and(|word| is_node(&base(word))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_read_as_linux_does() {
        for (text, expected) in [
            ("echo hi\n", vec!["sh"]),
            ("", vec!["sh"]),
            ("#!\necho", vec!["sh"]),
            ("#!/bin/bash -e\n", vec!["/bin/bash", "-e"]),
            ("#! /usr/bin/env python3", vec!["/usr/bin/env", "python3"]),
            ("#!/usr/bin/env -S awk -v a=b -f \nx", vec!["/usr/bin/env", "-S awk -v a=b -f"]),
            ("#!\t/bin/sh\t-x  y \n", vec!["/bin/sh", "-x  y"]),
            ("#!/usr/bin/node\n", vec!["/usr/bin/node", "--preserve-symlinks-main"]),
            ("#!/usr/bin/env -S node --x\n", vec!["/usr/bin/env", "-S node --x", "--preserve-symlinks-main"]),
            (" #!/bin/bash\n", vec!["sh"]),
        ] {
            let words: Vec<Vec<u8>> = expected.into_iter().map(|word| word.as_bytes().to_vec()).collect();
            assert_eq!(of(text.as_bytes()).unwrap(), words, "{text}");
        }
    }

    #[test]
    fn lines_as_in_dos_are_refused() {
        assert_eq!(of(b"#!/bin/sh\r\necho\r\n").unwrap_err().kind(), ErrorKind::Usage);
        assert_eq!(of(b"echo\r\n").unwrap(), [b"sh"]);
    }
}
