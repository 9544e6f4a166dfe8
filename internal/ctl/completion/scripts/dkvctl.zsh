#compdef dkvctl
# Completion of dkvctl for zsh. For this shell: source <(dkvctl -completion zsh)
# For all of yours: dkvctl -completion zsh > a folder of $fpath, as _dkvctl
_dkvctl() {
    local -a lines candidates shown
    local line
    lines=("${(@f)$("${words[1]}" -candidates -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    case ${lines[1]} in
    files) compset -P '*='; _files; return ;;
    folders) compset -P '*='; _files -/; return ;;
    esac
    for line in "${(@)lines[2,-1]}"; do
        candidates+=("${line%%$'\t'*}")
        shown+=("${line%%$'\t'*}  ${line#*$'\t'}")
    done
    compadd -l -d shown -a candidates
}
if [[ ${funcstack[1]} == _dkvctl ]]; then
    _dkvctl "$@"
elif (( $+functions[compdef] )); then
    compdef _dkvctl dkvctl
fi
