# Completes fleet's command line in bash: source it, or put it into a directory of bash-completion as `fleet`.
_fleet() {
    local program=${1:-fleet} kind word rest value broken
    local -a answer words
    if [[ -n ${COMP_LINE-} ]]; then
        mapfile -t answer < <("$program" __complete line "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
    else
        words=("${COMP_WORDS[@]:1:COMP_CWORD}")
        mapfile -t answer < <("$program" __complete words "${words[@]}" 2>/dev/null)
    fi
    COMPREPLY=()
    [[ ${#answer[@]} -gt 0 ]] || return 0
    kind=${answer[0]%%$'\t'*}
    word=${answer[0]#*$'\t'}
    # What bash takes for the word's end may begin behind an `@`, `=` or `:`.
    broken=${COMP_WORDS[COMP_CWORD]-}
    broken=${broken#[\"\']}
    case $broken in [@=:]) broken= ;; esac
    if [[ -n ${COMP_LINE-} ]]; then rest=${word%"$broken"}; else rest=; fi
    if [[ $kind == files ]]; then
        compopt -o filenames 2>/dev/null
        value=${answer[1]-}
        value=${value%$'\t'*}
        mapfile -t COMPREPLY < <(compgen -f -- "${word#"$value"}")
        return 0
    fi
    [[ $kind != partial ]] || compopt -o nospace 2>/dev/null
    for value in "${answer[@]:1}"; do
        value=${value%%$'\t'*}
        COMPREPLY+=("${value#"$rest"}")
    done
}
complete -F _fleet fleet
