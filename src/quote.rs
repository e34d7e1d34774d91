//! The one quoter: a word that every login shell reads back byte for byte.

/// Quotes bytes as one word of a shell's command line, with one spelling for sh, dash, bash, zsh, ksh, busybox ash and fish.
///
/// Single quotes hold everything but what these shells do not agree on there: a single quote, a backslash (fish) and an
/// exclamation mark (csh's history), which go outside, each behind a backslash. Letters, digits and `_ . / : @ + , -` alone
/// stay as they are. csh and tcsh read it alike unless it holds a newline, for which they share no spelling with the others.
/// No command line can hold a zero byte.
///
/// # Examples
///
/// ```
/// assert_eq!(fleet::quote("/srv/www"), b"/srv/www");
/// assert_eq!(fleet::quote("it's $HOME"), br"'it'\''s $HOME'");
/// assert_eq!(fleet::quote(""), b"''");
/// ```
pub fn quote(word: impl AsRef<[u8]>) -> Vec<u8> {
    let word = word.as_ref();
    if is_bare(word) {
        return word.to_vec();
    }
    if word.is_empty() {
        return b"''".to_vec();
    }
    let mut quoted = Vec::with_capacity(word.len() + 2);
    let mut is_open = false;
    for &byte in word {
        let is_outside = matches!(byte, b'\'' | b'\\' | b'!');
        if is_open == is_outside {
            quoted.push(b'\'');
            is_open = !is_outside;
        }
        if is_outside {
            quoted.push(b'\\');
        }
        quoted.push(byte);
    }
    if is_open {
        quoted.push(b'\'');
    }
    quoted
}

/// Tells whether a word means itself wherever it stands, between quotes too.
pub(crate) fn is_bare(word: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_./:@+,-".contains(byte);
    !word.is_empty() && word.iter().all(is_plain)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// The shells that read every word back, each with what it takes before a command line.
    const SHELLS: [&[&str]; 6] =
        [&["sh", "-c"], &["dash", "-c"], &["bash", "-c"], &["zsh", "-c"], &["fish", "-c"], &["busybox", "ash", "-c"]];

    fn is_there(program: &str) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
    }

    /// Has a shell write words, each ended by a line that no word holds.
    fn read_back(shell: &[&str], words: &[Vec<u8>]) -> Vec<u8> {
        let mut line = b"printf '%s\\n--\\n'".to_vec();
        for word in words {
            line.push(b' ');
            line.extend(quote(word));
        }
        let home = tempfile::tempdir().unwrap();
        let output = Command::new(shell[0])
            .args(&shell[1..])
            .arg(std::ffi::OsStr::from_bytes(&line))
            .env("HOME", home.path())
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap();
        assert!(output.stderr.is_empty(), "{shell:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn written(words: &[Vec<u8>]) -> Vec<u8> {
        words.iter().flat_map(|word| [word.as_slice(), b"\n--\n"].concat()).collect()
    }

    fn check(words: &[Vec<u8>]) {
        for shell in SHELLS.iter().filter(|shell| is_there(shell[0])) {
            assert_eq!(
                read_back(shell, words).escape_ascii().to_string(),
                written(words).escape_ascii().to_string(),
                "{shell:?}"
            );
        }
    }

    #[test]
    fn every_byte_comes_back_from_every_shell() {
        let each = (1..=255).map(|byte| vec![byte]);
        let between = (1..=255).map(|byte| vec![b'a', byte, b'b']);
        let all: Vec<u8> = (1..=255).collect();
        check(&each.chain(between).chain([all.clone(), all.into_iter().rev().collect()]).collect::<Vec<_>>());
    }

    #[test]
    fn what_shells_treat_specially_comes_back() {
        let words = [
            "",
            " ",
            "-n",
            "~",
            "~root",
            "=ls",
            "%self",
            "{a,b}",
            "[a]*?",
            "$HOME ${HOME} $(id) `id`",
            "a=b",
            "#",
            "!!",
            "!-1",
            "'",
            "''",
            "'\\''",
            "\\",
            "\\\\",
            "\\'",
            "\\n",
            "\n",
            "a\n",
            "\\\n",
            "'\n'",
            "!\n",
            "\t",
            "\r\n",
            "&& || ; | & < >",
            "(a)",
            "^a^b",
            "\u{fc}\u{1f600}",
            "$'a'",
            "\"",
            "\\\"",
            "a b\u{a0}c",
            "-",
            "--",
            "end",
            "\u{7f}\u{1b}[0m",
        ];
        check(&words.map(|word| word.as_bytes().to_vec()));
    }

    #[test]
    fn csh_reads_what_has_no_newline() {
        let words: Vec<Vec<u8>> =
            (1..=255).filter(|byte| *byte != b'\n').map(|byte| vec![b'a', byte, b'\'', b'!', b'\\']).collect();
        if is_there("tcsh") {
            assert_eq!(read_back(&["tcsh", "-f", "-c"], &words), written(&words));
        }
    }

    #[test]
    fn plain_words_stay_readable() {
        for word in ["web01", "/srv/www", "user@host:22", "1.5", "a_b-c,d+e"] {
            assert_eq!(quote(word), word.as_bytes());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_words_come_back(
            words in prop::collection::vec(
                prop_oneof![prop::collection::vec(1u8..=255, 0..40), "[ab'\\\\!\n $\"*~é-]{0,20}".prop_map(String::into_bytes)],
                1..40,
            )
        ) {
            check(&words);
        }
    }
}
