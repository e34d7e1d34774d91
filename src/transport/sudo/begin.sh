# What sudo starts: says so, and becomes the command.
#
#   $1 the command, $2 the mark, $3 the process of sudo, $4 the LC_ALL of the login with an x before it, if it was set
#   $5 the length of a file that the command reads as descriptor 9, empty for none; $6 the guard's name, empty for none, $7 how long
#   after TERM to send KILL, in tenths of a second, $8 watch.sh
#
# The mark and a word are never side by side where somebody may quote this line.
if test "${LC_ALL-}" = C; then
  case $4 in x*) LC_ALL=${4#x};; *) unset LC_ALL;; esac;
fi;
if test "$5"; then
  for d in "${TMPDIR:-/tmp}" /var/tmp /dev/shm "$HOME"; do f=$(mktemp "$d/.fleet.XXXXXXXXXX" 2>/dev/null) && break; done;
  test "$f" || { echo "there is no place for a temporary file" >&2; exit 1; };
  trap "exit 1" HUP INT TERM PIPE;
  trap "rm -f \"\$f\"" EXIT;
  printf %s%s "$2" text >&2;
  sed -n "/^[.]\$/q;p" | base64 -d >"$f";
  test "$(wc -c <"$f")" -eq "$5" || { echo "the script did not arrive: base64 or sed failed" >&2; exit 1; };
  exec 9<"$f";
  rm -f "$f";
  trap - HUP INT TERM PIPE EXIT;
  test -r /dev/fd/9 || { echo "there is no /dev/fd" >&2; exit 1; };
fi;
if test "$6"; then
  s=;
  command -v setsid >/dev/null 2>&1 && s=setsid;
  FLEET_GUARD=$2;
  export FLEET_GUARD;
  ( $s sh -c "$8" fleet-watch "$2" "$3" $PPID $$ "$6" "$7" </dev/null >/dev/null 2>&1 9<&- & );
fi;
printf %s%s "$2" run >&2;
exec sh -c "$1"
