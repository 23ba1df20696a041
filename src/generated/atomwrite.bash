# Completion for bash, with bash-completion or without. Made of src/generated/atomwrite.bash and src/cli.rs.

_atomwrite() {
    local cur=$2 word last="" option="" value="" colon="" prefix="" sourced="" ended=""
    local -i i operands=0
    COMPREPLY=()
    # Reads the words before the cursor. To bash, '--sync=none' and 'USER:GROUP' are three of them.
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == "=" && $last ]]; then
            option=$last
            continue
        elif [[ $word == ":" ]]; then
            # What comes next is a part of the same value, or of the same operand.
            option=${option:-${value:-operand}}
            colon=yes
            continue
        fi
        last="" value="" colon=""
        if [[ $option ]]; then
            value=$option
            option=""
            continue
        fi
        case $ended$word in
            -- | ended--)
                if ((operands == 1)) && [[ ! $sourced ]]; then
                    _atomwrite_command $((i + 1))
                    return
                fi
                ended=ended
                ;;
            --*)
                last=$word
                case $word in
                    --target-directory | --command) sourced=yes ;;
                esac
                case $word in
                    {long_with_value}) option=$word ;;
                esac
                ;;
            -?*)
                last=$word
                # Of several letters, the first that takes a value takes the rest for it.
                word=${word#"${word%%[{letters}]*}"}
                case $word in
                    ?) option=-$word ;;
                    *) value=${word:+-${word:0:1}} ;;
                esac
                [[ $word == [ct]* ]] && sourced=yes
                ;;
            *)
                ((operands += 1))
                ;;
        esac
    done
    if [[ ${COMP_WORDS[COMP_CWORD]} == "=" && $last ]]; then
        option=$last
        cur=""
    elif [[ ${COMP_WORDS[COMP_CWORD]} == ":" ]]; then
        option=${option:-$value}
        colon=yes
        cur=""
    elif [[ ! $option && ! $ended && $cur == -* ]]; then
        word=${cur#"${cur%%[{letters}]*}"}
        if [[ $cur == --* || ${#word} -lt 2 ]]; then
            COMPREPLY=($(compgen -W "{options}" -- "$cur"))
            return
        fi
        # '-oUSER'
        prefix=${cur%"${word:1}"}
        option=-${word:0:1}
        cur=${word:1}
    fi
    # No other value has a colon in it.
    [[ $colon && $option != -o && $option != --owner ]] && cur=:$cur
    case $option in
{values}
        # An operand, or a file: bash offers files where there is nothing else.
        *) return ;;
    esac
    [[ ${COMPREPLY[*]} ]] || compopt +o bashdefault +o default
}

# Offers users, and after a colon groups.
_atomwrite_owners() {
    local who=-u
    if [[ $colon ]]; then
        who=-g
    elif [[ $cur == *:* ]]; then
        # A user may have taken the colon out of COMP_WORDBREAKS.
        who=-g
        prefix+=${cur%%:*}:
        cur=${cur#*:}
    fi
    COMPREPLY=($(compgen -P "$prefix" "$who" -- "$cur"))
}

# Offers directories, and nothing where there are none.
_atomwrite_directories() {
    if [[ $prefix ]]; then
        local IFS=$'\n'
        compopt -o filenames -o nospace
        COMPREPLY=($(compgen -P "$prefix" -S / -d -- "$cur"))
    else
        compopt -o dirnames
    fi
}

# Offers commands, and then what the completion of COMMAND itself does, whose place among the words is given.
_atomwrite_command() {
    if declare -F _comp_command_offset >/dev/null; then
        _comp_command_offset "$1"
        return
    elif declare -F _command_offset >/dev/null; then
        _command_offset "$1"
        return
    elif ((COMP_CWORD == $1)); then
        COMPREPLY=($(compgen -c -- "$cur"))
        return
    fi
    local word last="" function="" rest=${COMP_LINE#* -- }
    # There may be one before DEST, too.
    [[ $ended ]] && rest=${rest#* -- }
    COMP_WORDS=("${COMP_WORDS[@]:$1}")
    ((COMP_CWORD -= $1, COMP_POINT -= ${#COMP_LINE} - ${#rest}))
    COMP_LINE=$rest
    for word in $(complete -p -- "${COMP_WORDS[0]}" 2>/dev/null); do
        case $last in
            -F) function=$word ;;
            -o) compopt -o "$word" ;;
        esac
        last=$word
    done
    if [[ $function ]]; then
        "$function" "${COMP_WORDS[0]}" "$cur" "${COMP_WORDS[COMP_CWORD-1]}"
    fi
}

if ! complete -F _atomwrite -o nosort -o bashdefault -o default atomwrite 2>/dev/null; then
    # Before bash 4.4.
    complete -F _atomwrite -o bashdefault -o default atomwrite
fi
