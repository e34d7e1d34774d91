"""Runs ClusterShell's nodeset on each line of standard input and writes one line of JSON for each: its code and what it folds
and expands to. One process, because each start of nodeset takes 80 ms."""

import contextlib
import io
import json
import sys

from ClusterShell.CLI.Nodeset import main


def nodeset(*args):
    out, err, code = io.StringIO(), io.StringIO(), 0
    sys.argv = ["nodeset", *args]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    return code, out.getvalue().rstrip("\n")


for line in sys.stdin:
    line = line.rstrip("\n")
    code, folded = nodeset("-f", "--", line)
    _, expanded = nodeset("-e", "-S", "\n", "--", line)
    print(json.dumps({"code": code, "folded": folded, "expanded": expanded}))
