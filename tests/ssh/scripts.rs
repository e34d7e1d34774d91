//! What holds for scripts on every server; `tmp` is the directory for temporary files of `host`.

use std::path::Path;
use std::time::Duration;

use fleet::op::{Context, Script};
use fleet::transport::KillResult;
use fleet::{Class, Host};

use crate::ground::{pool, run, run_in, stderr, stdout};

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

/// Scripts with what runs them, which all write their two arguments and exit with 7.
const SCRIPTS: [(&str, &str); 9] = [
    ("sh", "printf '<%s>' \"$@\"; exit 7"),
    ("sh", "#!/bin/sh -e\nprintf '<%s>' \"$@\"; (exit 7); echo not here"),
    ("bash", "#!/bin/bash\na=(\"$@\"); printf '<%s>' \"${a[@]}\"; exit 7\n"),
    ("perl", "#!/usr/bin/env perl\nprint map { \"<$_>\" } @ARGV; exit 7;\n"),
    (
        "python3",
        "#!/usr/bin/env python3\nimport sys\nsys.stdout.write(''.join(f'<{a}>' for a in sys.argv[1:]))\nsys.exit(7)",
    ),
    (
        "node",
        "#!/usr/bin/env node\nprocess.stdout.write(process.argv.slice(2).map(a => `<${a}>`).join(''));process.exitCode = 7",
    ),
    ("mawk", "#!/usr/bin/mawk -f\nBEGIN { for (i = 1; i < ARGC; i++) printf \"<%s>\", ARGV[i]; exit 7 }"),
    ("fish", "#!/usr/bin/fish\nprintf '<%s>' $argv; exit 7"),
    ("zsh", "#!/usr/bin/zsh\nprintf '<%s>' $@; exit 7"),
];

pub(crate) fn any_interpreter_runs_with_its_arguments(host: &Host, tmp: &Path) {
    let path = std::env::var_os("PATH").unwrap();
    let mut ran = Vec::new();
    for (program, text) in SCRIPTS {
        if !std::env::split_paths(&path).any(|dir| dir.join(program).is_file()) {
            continue;
        }
        let result = run(host.clone(), Script::new(text).unwrap().args(["it's $HOME \\ !", "--\u{fc}\n"]));
        assert_eq!(stdout(&result), "<it's $HOME \\ !><--\u{fc}\n>", "{text}: {}", stderr(&result));
        assert_eq!((stderr(&result).as_str(), result.value().unwrap().code()), ("", Some(7)), "{text}");
        assert!(is_empty(tmp), "{text}");
        ran.push(program);
    }
    assert!(ran.len() >= 4, "{ran:?}");
}

pub(crate) fn a_script_finds_no_file_its_context_and_an_empty_input(host: &Host, tmp: &Path) {
    let text = "cat; ls -A \"$TMPDIR\" | wc -l; echo \"$A $FLEET_HOST $PWD $1\"; kill -TERM $$";
    let context = Context::new().env("A", "b c").cwd("/usr").export_host(true).template(true);
    let result = run(host.clone(), Script::new(text).unwrap().args(["{{port}} {{user}}"]).within(context));
    let expected = format!("0\nb c {} /usr {} {}\n", host.name, host.port, host.user);
    assert_eq!(stdout(&result), expected, "{}", stderr(&result));
    assert_eq!(result.report.facts.signal.as_deref(), Some("TERM"));
    assert!(is_empty(tmp));
}

pub(crate) fn a_long_script_with_any_bytes_arrives_whole(host: &Host, tmp: &Path) {
    let mut text = b"cksum </dev/fd/9; exit 0\n".to_vec();
    text.extend((0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8));
    let local = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(local.path(), &text).unwrap();
    let sum = std::process::Command::new("cksum").stdin(local.reopen().unwrap()).output().unwrap().stdout;
    let result = run(host.clone(), Script::new(text).unwrap());
    assert_eq!(stdout(&result).into_bytes(), sum, "{}", stderr(&result));
    assert_eq!(result.value().unwrap().code(), Some(0));
    assert!(is_empty(tmp));
}

pub(crate) fn a_timeout_ends_a_script_and_leaves_nothing(host: &Host, tmp: &Path) {
    let script = Script::new("echo begun; sleep 60").unwrap();
    let result =
        run_in(pool().timeout(Duration::from_secs(4)).kill_after(Duration::from_secs(1)), host.clone(), script);
    assert_eq!(result.class(), Class::TimedOut);
    assert_eq!(stdout(&result), "begun\n");
    assert_eq!(result.value().unwrap().ended.killed.unwrap().result, KillResult::Killed);
    assert!(is_empty(tmp));
}
