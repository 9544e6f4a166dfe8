# Completion of dkvctl for fish. For this shell: dkvctl -completion fish | source
# For all of yours: dkvctl -completion fish > ~/.config/fish/completions/dkvctl.fish
function __dkvctl_candidates
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    set -l lines ($words[1] -candidates -- $words[2..-1] "$word" 2>/dev/null)
    switch "$lines[1]"
        case files
            __fish_complete_path (string replace -r '^.*=' '' -- "$word")
        case folders
            __fish_complete_directories (string replace -r '^.*=' '' -- "$word")
        case words
            string join \n -- $lines[2..-1]
    end
end
complete -c dkvctl -f -a '(__dkvctl_candidates)'
