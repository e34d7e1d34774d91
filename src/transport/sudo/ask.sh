# What the login's shell starts: sudo with a prompt that is told apart from everything else.
#
#   $1 the mark, $2 the user, $3 begin.sh; the rest is for that
#
# It travels as one line between single quotes that every login shell reads alike, as the two others do. sudo speaks English here,
# so that what it says can be told apart too; begin.sh gives the locale back.
m=$1 u=$2 b=$3;
shift 3;
command -v sudo >/dev/null 2>&1 || { printf %s "$m"none >&2; exit 127; };
l=${LC_ALL+x}${LC_ALL-};
LC_ALL=C;
export LC_ALL;
exec sudo -S -H -p "$m"ask -u "$u" -- sh -c "$b" fleet-sudo "$1" "$m" $$ "$l" "$2" "$3" "$4" "$5"
