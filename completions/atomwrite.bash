_atomwrite() {
    local i cur prev opts cmd
    COMPREPLY=()
    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
        cur="$2"
    else
        cur="${COMP_WORDS[COMP_CWORD]}"
    fi
    prev="$3"
    # To bash, '--sync=none' is three words.
    if [[ ${prev} == "=" ]]; then
        prev="${COMP_WORDS[COMP_CWORD-2]}"
    elif [[ ${cur} == "=" ]]; then
        cur=""
    elif [[ ${prev} == -b || ${prev} == --backup || ${prev} == --inplace ]]; then
        # Their value comes after an equals sign, or not at all.
        prev=""
    fi
    # After DEST and '--' comes COMMAND, with words of its own; but not with -t.
    local dest=""
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${COMP_WORDS[i]}" in
            --)
                [[ ${dest} ]] || break
                if declare -F _comp_command_offset >/dev/null; then
                    _comp_command_offset $((i + 1))
                elif declare -F _command_offset >/dev/null; then
                    _command_offset $((i + 1))
                elif ((i + 1 == COMP_CWORD)); then
                    COMPREPLY=($(compgen -c -- "${cur}"))
                fi
                return 0
                ;;
            -t*|--target-directory*)
                break
                ;;
            =)
                ((i++))
                ;;
            -*)
                ;;
            *)
                dest="${COMP_WORDS[i]}"
                ;;
        esac
    done
    cmd=""
    opts=""

    for i in "${COMP_WORDS[@]:0:COMP_CWORD}"
    do
        case "${cmd},${i}" in
            ",$1")
                cmd="atomwrite"
                ;;
            *)
                ;;
        esac
    done

    case "${cmd}" in
        atomwrite)
            opts="-a -t -n -C -m -o -g -f -D -b -S -v -q -h -V --append --lock --target-directory --files0-from --no-clobber --allow-empty --no-empty --sha256 --validate --compare --unchanged-status --keep --mode --owner --group --no-dereference --force --create-dirs --backup --suffix --sync --fsync --no-fsync --inplace --progress --verbose --quiet --help --version"
            if [[ ${cur} == -* ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --target-directory)
                    local IFS=$'\n'
                    COMPREPLY=($(compgen -d -- "${cur}"))
                    [[ ${COMPREPLY[*]} ]] || compopt +o default
                    compopt -o filenames
                    return 0
                    ;;
                -t)
                    local IFS=$'\n'
                    COMPREPLY=($(compgen -d -- "${cur}"))
                    [[ ${COMPREPLY[*]} ]] || compopt +o default
                    compopt -o filenames
                    return 0
                    ;;
                --files0-from)
                    local oldifs
                    if [ -n "${IFS+x}" ]; then
                        oldifs="$IFS"
                    fi
                    IFS=$'\n'
                    COMPREPLY=($(compgen -f "${cur}"))
                    if [ -n "${oldifs+x}" ]; then
                        IFS="$oldifs"
                    fi
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o filenames
                    fi
                    return 0
                    ;;
                --sha256)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --validate)
                    COMPREPLY=($(compgen -c -- "${cur}"))
                    return 0
                    ;;
                --unchanged-status)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --keep)
                    COMPREPLY=($(compgen -W "try all none" -- "${cur}"))
                    return 0
                    ;;
                --mode)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                -m)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --owner)
                    COMPREPLY=($(compgen -u -- "${cur}"))
                    return 0
                    ;;
                -o)
                    COMPREPLY=($(compgen -u -- "${cur}"))
                    return 0
                    ;;
                --group)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                -g)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --backup)
                    COMPREPLY=($(compgen -W "none simple existing numbered" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                -b)
                    COMPREPLY=($(compgen -W "none simple existing numbered" -- "${cur}"))
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --suffix)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                -S)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi
                    return 0
                    ;;
                --sync)
                    COMPREPLY=($(compgen -W "none file full" -- "${cur}"))
                    return 0
                    ;;
                --inplace)
                    COMPREPLY=($(compgen -W "never auto always" -- "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            return 0
            ;;
    esac
}

if [[ "${BASH_VERSINFO[0]}" -eq 4 && "${BASH_VERSINFO[1]}" -ge 4 || "${BASH_VERSINFO[0]}" -gt 4 ]]; then
    complete -F _atomwrite -o nosort -o bashdefault -o default atomwrite
else
    complete -F _atomwrite -o bashdefault -o default atomwrite
fi
