# Completes fleet's command line in fish: source it, or put it into ~/.config/fish/completions as `fleet.fish`.
function __fleet_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct | string unescape --no-quoted 2>/dev/null; or commandline -ct)
    set -l program $words[1]
    set -l answer ($program __complete words $words[2..-1] "$current" 2>/dev/null)
    set -q answer[1]; or return
    set -l kind (string split -m 1 \t -- $answer[1])[1]
    if test "$kind" = files
        set -l before (string split -m 1 \t -- $answer[2])[1]
        __fish_complete_path (string replace -- "$before" "" "$current") | string replace -r '^' -- "$before"
        return
    end
    printf '%s\n' $answer[2..-1]
end
complete -c fleet -e
complete -c fleet -f -k -a '(__fleet_complete)'
