umask 077;
PATH=$PATH:/usr/bin:/bin:/usr/sbin:/sbin;
die() { echo "fleet-copy-id: $1" >&2; exit 1; };
b=$2; c=$(printf %b "$3"); line="$1 $b${c:+ $c}"; t=$(printf "\t");
has() { while read -r l || test -n "$l"; do case " $l " in
" #"*) ;;
*cert-authority*[" $t"]"$b"[" $t"]*) ;;
*[" $t"]"$b"[" $t"]*) return 0 ;;
esac; done <"$p"; return 1; };
there() { chmod go-w .ssh "$p" 2>/dev/null; echo "fleet-copy-id: already there"; exit 0; };
cd || die "there is no home directory";
test -d .ssh || mkdir .ssh || test -d .ssh || die "cannot make ~/.ssh";
p=.ssh/authorized_keys;
if test -h "$p"; then p=$(readlink -f "$p"); test -n "$p" || die "cannot follow the symbolic link ~/.ssh/authorized_keys"; fi;
if test -e "$p"; then test -f "$p" || die "$p is not a regular file"; test -r "$p" || die "cannot read $p"; has && there; fi;
d=$(dirname "$p"); test -w "$d" || die "cannot write to $d";
n=$d/.authorized_keys.fleet.$$; k=;
clean() { rm -f "$n"; test -z "$k" || rmdir "$k"; };
trap clean 0; trap "exit 1" 1 2 13 15;
exec 9<"$d";
if command -v flock >/dev/null 2>&1 && flock 9 2>/dev/null; then :; else
i=0; until mkdir "$d/.authorized_keys.fleet" 2>/dev/null; do i=$((i+1)); test $i -lt 30 || die "$d/.authorized_keys.fleet is in the way: remove it unless a copy-id runs"; sleep 1; done;
k=$d/.authorized_keys.fleet;
fi;
rm -f "$n";
if test -e "$p"; then has && there; cp -p "$p" "$n" && chmod u+w,go-w "$n"; else (set -C; : >"$n"); fi || die "cannot write to $d";
if test -s "$n" && test -n "$(tail -c 1 "$n")"; then echo >>"$n" || die "cannot write to $d"; fi;
printf "%s\n" "$line" >>"$n" && test "$(tail -n 1 "$n")" = "$line" || die "cannot write to $d";
sync "$n" 2>/dev/null || sync;
chmod go-w .ssh && mv -f "$n" "$p" || die "cannot replace $p";
if command -v restorecon >/dev/null 2>&1; then restorecon -F .ssh "$p" 2>/dev/null; fi;
echo "fleet-copy-id: added"
