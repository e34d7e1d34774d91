# The guard: ends the processes of its own SSH connection when its standard input ends, or when it is told to.
#
#   $1 how long after TERM to send KILL, in tenths of a second
#   $2 `first`, or `later` when the connection ran other commands before: what those left is spared; `sudo` when it did and the
#   command runs by sudo: then nothing of this user is new
#   $3 what it calls itself, with -k behind it while it ends processes. Commands that run by sudo have a watcher each, $3-w, which
#   looks for that name and ends what this user may not signal (src/transport/sudo/watch.sh); it goes when nothing is left
#
# The words on standard input: `watch` arms it, `kill` ends the processes now, `done` dismisses it. It says `fleet-guard ready`
# or `unable`, and after `kill` `gone` or `left`. It travels as one line between single quotes that every login shell reads
# alike: no single quote, no exclamation mark, no backslash but that of tr, and a `;` wherever a line could end a command.
# It needs grep, sleep and /proc; tr and cat are for a grep without -z. Nobody hears what fails.
exec 2>/dev/null;
trap "" HUP PIPE;
k=$1;
c=$3;
v="SSH_CONNECTION=$SSH_CONNECTION";
z=z;
# a: the environments of the connection, its own among them if all went well. z: whether grep knows -z.
find() {
  if test "$z"; then
    a=$(grep -lzxF "$v" /proc/[0-9]*/environ);
  else
    a=$(for f in /proc/[0-9]*/environ; do test -r $f && tr "\000" "\n" <$f | grep -qxF "$v" && echo $f; done);
  fi;
  set -- $a;
  a=$*;
};
is_found() { case " $a " in *" /proc/$$/environ "*) ;; *) return 1;; esac; };
unable() { echo fleet-guard unable; exit 0; };
# p: the process, q: its parent, i: its session, j: when it started, in ticks. Itself, zombies, file servers and what is older
# than the server of the connection are none.
look() {
  p=${1#/proc/};
  p=${p%%/*};
  test "$p" = $$ && return 1;
  read -r s </proc/$p/stat || return 1;
  case $s in *"(sftp-server)"*|*"($c-w)"*) return 1;; esac;
  set -- ${s##*")"};
  case $1 in Z|X) return 1;; esac;
  q=$2;
  i=$4;
  j=${20};
  test "$j" -ge $b;
};
# r: the watchers.
watchers() { r=$(grep -lE "[(]$c-w[)] [^ZX]" /proc/[0-9]*/stat); };
# t: now, in tenths of a second.
now() { read -r u x </proc/uptime; x=${u#*.}; t=$((${u%.*}*10+${x%?})); };
b=0;
a=;
test "$SSH_CONNECTION" && find;
is_found || { z=; find; };
test "$SSH_CONNECTION" && is_found || unable;
# l: the sessions that commands lead, y and n: start and number of the oldest of these, o: the sessions to spare.
y=;
l=;
o=" ";
for f in $a; do
  look $f && test $q = $PPID || continue;
  test $i = $p && l="$l|$i";
  if test -z "$y" || test $j -lt $y; then y=$j; n=$p; fi;
done;
l=${l#?};
if test $2 = later || test $2 = sudo; then
  test "$y" || test $2 = sudo || unable;
  for f in $a; do
    look $f || continue;
    if test -z "$y"; then o="$o$i "; elif test $j -lt $y || { test $j = $y && test $p -lt $n; }; then o="$o$i "; fi;
  done;
fi;
read -r s </proc/$PPID/stat && set -- ${s##*")"} && test "${20}" -ge 0 && b=${20};
# g: what belongs to the connection now; other users too, in the sessions of its commands.
list() {
  find;
  g=;
  is_found || g=" 0";
  test "$l" && a="$a $(grep -lE "[)] [A-Z] [0-9]+ [0-9]+ ($l) " /proc/[0-9]*/stat)";
  for f in $a; do
    look $f || continue;
    case "$o" in *" $i "*) continue;; esac;
    case "$g " in *" $p "*) ;; *) g="$g $p";; esac;
  done;
};
# TERM once for each, KILL when the time is over. Twice nothing: one look may miss what is born in it. Watchers saw later that
# they have to work, and have more time.
work() {
  printf %s "$c-k" >/proc/$$/comm;
  now;
  e=$((t+k));
  d=;
  n=0;
  while :; do
    list;
    watchers;
    if test -z "$g$r"; then
      n=$((n+1));
      test $n = 1 && continue;
      echo fleet-guard gone;
      return;
    fi;
    n=0;
    now;
    h=TERM;
    test $t -lt $e || h=KILL;
    test $t -lt $((e+10)) || { test -z "$g" && test $t -lt $((e+25)); } || { echo fleet-guard left; return; };
    for p in $g; do
      test $p = 0 && continue;
      case "$h$d " in TERM*" $p "*) ;; *) d="$d $p"; kill -$h $p;; esac;
    done;
    sleep 0.05 || sleep 1;
  done;
};
printf %s "$c" >/proc/$$/comm;
echo fleet-guard ready;
w=;
while read -r x; do
  case $x in watch) w=1;; kill) w=1; work;; *) exit 0;; esac;
done;
test "$w" && work;
exit 0
