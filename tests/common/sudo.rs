//! A stand-in for sudo on simulated hosts, whose commands run as whoever runs the tests.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Takes `-S -H -p PROMPT -u USER -- COMMAND…` and nothing else, as fleet gives them. `$FAKE_SUDO` says what it asks, and what it
/// refuses, `$FAKE_SUDO_PTY` whether it gives the command a session of its own. What it does is logged to `$FAKE_SUDO_LOG`.
const SCRIPT: &str = r#"#!/bin/sh
test -z "$FAKE_SUDO_PASSWORD_FILE" || FAKE_SUDO_PASSWORD=$(cat "$FAKE_SUDO_PASSWORD_FILE")
log() { test -z "$FAKE_SUDO_LOG" || echo "$*" >>"$FAKE_SUDO_LOG"; }
test "$1 $2 $3 $5 $7" = "-S -H -p -u --" || { echo "sudo: unexpected arguments" >&2; exit 64; }
prompt=$4 user=$6
shift 7
test "$LC_ALL" = C || { echo "sudo: das ist nicht Englisch" >&2; exit 64; }
ask() {
    tries=0
    while :; do
        test -t 0 && stty -echo
        printf %s "$prompt" >&2
        read -r typed || { echo >&2; echo "sudo: no password was provided" >&2; echo "sudo: a password is required" >&2; exit 1; }
        test -t 0 && echo >&2
        test -z "$FAKE_SUDO_SLOW" || sleep "$FAKE_SUDO_SLOW"
        if test "$typed" = "$FAKE_SUDO_PASSWORD"; then log accepted; return; fi
        log refused
        tries=$((tries+1))
        test "$tries" -lt "${FAKE_SUDO_TRIES:-3}" || { echo "sudo: $tries incorrect password attempt" >&2; exit 1; }
        echo "Sorry, try again." >&2
    done
}
case $FAKE_SUDO in
nopasswd) log unasked ;;
password) ask ;;
lecture) printf '\nWe trust you have received the usual lecture from the local System\nAdministrator.\n\n    #1) Respect.\n\n' >&2; ask ;;
warning) echo "sudo: unable to resolve host web01: Name or service not known" >&2; ask ;;
stranger) ask; echo "$USER is not in the sudoers file." >&2; exit 1 ;;
limited) ask; echo "Sorry, user $USER is not allowed to execute '$*' as $user on $(hostname)." >&2; exit 1 ;;
requiretty) test -t 0 || { echo "sudo: sorry, you must have a tty to run sudo" >&2; exit 1; } ;;
expired) ask; echo "sudo: Account expired" >&2; exit 1 ;;
silent) exit 3 ;;
esac
# The environment as sudo leaves it: what tells a connection's processes from others is gone.
set -- env -u SSH_CONNECTION -u SSH_CLIENT -u FAKE_SUDO_PASSWORD "SUDO_USER=$USER" "USER=$user" "$@"
case $FAKE_SUDO_PTY in
# A session of its own, with sudo between.
yes) setsid -w "$@" 3<&- 4<&- 5<&- 6<&- 7<&- 8<&- 9<&- ;;
*) exec "$@" 3<&- 4<&- 5<&- 6<&- 7<&- 8<&- 9<&- ;;
esac
"#;

/// Writes it into a directory, and returns what `PATH` has to be.
pub(crate) fn install(dir: &Path) -> String {
    let bin: PathBuf = dir.join("sudo-bin");
    fs::create_dir_all(&bin).unwrap();
    let path = bin.join("sudo");
    fs::write(&path, SCRIPT).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display())
}
