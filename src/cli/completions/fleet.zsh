#compdef fleet
# Completes fleet's command line in zsh: source it after compinit, or put it into a directory of $fpath as `_fleet`.
_fleet() {
    local program=${~words[1]} kind line
    local -a answer values shown
    (( $+commands[$program] )) || [[ -x $program ]] || program=fleet
    answer=("${(@f)$("$program" __complete words "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    kind=${answer[1]%%$'\t'*}
    if [[ $kind == files ]]; then
        local before=${answer[2]%%$'\t'*}
        [[ -z $before ]] || compset -P ${#before}
        _files
        return
    fi
    for line in "${(@)answer[2,-1]}"; do
        values+=("${line%%$'\t'*}")
        shown+=("${line%%$'\t'*}${${line#*$'\t'}:+  ${line#*$'\t'}}")
    done
    (( $#values )) || return 1
    if [[ $kind == partial ]]; then
        compadd -S '' -l -d shown -a values
    else
        compadd -l -d shown -a values
    fi
}
if [[ $funcstack[1] == _fleet ]]; then _fleet "$@"; else compdef _fleet fleet; fi
