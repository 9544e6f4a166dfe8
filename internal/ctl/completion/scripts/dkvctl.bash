# Completion of dkvctl for bash. For this shell: source <(dkvctl -completion bash)
# For all of yours: dkvctl -completion bash > ~/.local/share/bash-completion/completions/dkvctl
_dkvctl() {
    # bash splits words at colons and equals signs too: put them together again.
    local -a words=()
    local i part glued=""
    for ((i = 1; i <= COMP_CWORD; i++)); do
        part=${COMP_WORDS[i]}
        if [[ -n $glued || ${#words[@]} -gt 0 && $part == [:=]* ]]; then
            words[${#words[@]} - 1]+=$part
        else
            words+=("$part")
        fi
        glued=""
        # What follows directly belongs to the same word.
        if [[ $part == [:=] && $i -lt $COMP_CWORD ]]; then glued=yes; fi
    done
    local word=${words[${#words[@]} - 1]}
    local kind candidate _
    COMPREPLY=()
    {
        read -r kind
        case $kind in
        files) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "${word##*=}"); return ;;
        folders) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "${word##*=}"); return ;;
        esac
        # Only what comes after the last colon or equals sign is replaced.
        local kept=""
        if [[ $word == *[:=]* ]]; then kept=${word%"${word##*[:=]}"}; fi
        while IFS=$'\t' read -r candidate _; do
            COMPREPLY+=("${candidate#"$kept"}")
        done
    } < <("${COMP_WORDS[0]}" -candidates -- "${words[@]}" 2>/dev/null)
    # A list goes on after a comma.
    if [[ ${#COMPREPLY[@]} -eq 1 && $word == *,* ]]; then compopt -o nospace; fi
}
complete -F _dkvctl dkvctl
