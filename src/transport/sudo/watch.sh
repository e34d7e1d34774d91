# Ends what runs by sudo when the guard of its connection is ending things: that may not signal another user.
#
#   $1 the mark, which the command has as FLEET_GUARD in its environment; $2 and $3 sudo, which ends by itself; $4 the command
#   $5 the guard's name: it calls itself so while it watches, and with -k while it ends things; gone without that, all is well
#   $6 how long after TERM to send KILL, in tenths of a second
#
# It calls itself $5-w: as long as it is there, the guard knows that something may be left.
m=$1 x=" $2 $3 $$ " c=$4 g=$5 k=$6;
trap "" HUP INT QUIT TERM PIPE;
printf %s "$g-w" >/proc/$$/comm || exit 0;
read -r s </proc/$c/stat || exit 0;
set -- ${s##*")"};
v=$4;
# l: what is left of the command: its session, and what has its mark.
list() {
  l=;
  for f in $(grep -lzxF "FLEET_GUARD=$m" /proc/[0-9]*/environ) $(grep -lE "[)] [A-Z] [0-9]+ [0-9]+ $v " /proc/[0-9]*/stat); do
    p=${f#/proc/};
    p=${p%%/*};
    case "$x$l " in *" $p "*) continue;; esac;
    read -r s </proc/$p/stat || continue;
    case $s in *")"" Z "*|*")"" X "*) continue;; esac;
    l="$l $p";
  done;
};
# t: now, in tenths of a second.
now() { read -r u y </proc/uptime; y=${u#*.}; t=$((${u%.*}*10+${y%?})); };
h=;
n=0;
z=0.2;
while :; do
  sleep $z || sleep 1;
  n=$((n+1));
  if test -z "$h"; then
    for f in $(grep -lE "^[0-9]+ [(]$g(-k)?[)] " /proc/[0-9]*/stat); do h=$f; break; done;
    if test -z "$h"; then
      # A guard comes soon or never.
      test $n -lt 10 || z=1;
      test $n -lt 70 || exit 0;
      test -d /proc/$c && continue;
      list;
      test "$l" && test $n -lt 15 && continue;
      exit 0;
    fi;
  fi;
  s=;
  read -r s <$h || exit 0;
  case $s in *" ($g) "*) z=0.3;; *" ($g-k) "*) break;; *) exit 0;; esac;
done;
now;
e=$((t+k));
d=;
n=0;
while :; do
  list;
  now;
  if test -z "$l"; then
    n=$((n+1));
    test $n -lt 2 || exit 0;
    continue;
  fi;
  n=0;
  h=TERM;
  test $t -lt $e || h=KILL;
  test $t -lt $((e+40)) || exit 1;
  for p in $l; do
    case "$h$d " in TERM*" $p "*) ;; *) d="$d $p"; kill -$h $p;; esac;
  done;
  sleep 0.05 || sleep 1;
done
