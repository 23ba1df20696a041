# Prints COMMAND and its words, which come after DEST and '--'; but not with -t or -c.
function __atomwrite_command
    set -l words (commandline -opc)
    set -l ended
    set -l value
    set -l operands 0
    set -e words[1]
    while set -q words[1]
        set -l word $words[1]
        set -e words[1]
        if set -q value[1]
            set -e value[1]
            continue
        end
        if contains -- "$ended$word" -- ended--
            if test $operands -eq 1
                # One word alone is no failure.
                string join ' ' -- (string escape -- $words) (commandline -ct)
                or true
                return
            end
            set ended ended
            continue
        end
        switch "$ended$word"
            case '--target-directory*' '--command*'
                return 1
            case --command --target-directory --files-from --files0-from --min-size --sha256 --validate --validate-all --unchanged-status --keep --mode --owner --group --suffix --sync
                set value follows
            case '--*'
            case '-?*'
                string match -qr '^-[^ctmogS]*[ct]' -- $word
                and return 1
                string match -qr '^-[^ctmogS]*[ctmogS]$' -- $word
                and set value follows
            case '*'
                set operands (math $operands + 1)
        end
    end
    return 1
end
# Directories, for '-tDIR' too.
function __atomwrite_directories
    __fish_complete_directories (commandline -ct | string replace -r -- '^-[^-ctmogS]*t' '')
end
# Users, and after a colon groups, for '-oUSER' and '--owner=USER' too.
function __atomwrite_owners
    set -l value (commandline -ct | string replace -r -- '^(-[^-ctmogS]*o|--owner=)' '')
    set -l user (string match -r -- '^[^:]*:' $value)
    if set -q user[1]
        for group in (__fish_complete_groups)
            echo $user$group
        end
    else
        __fish_complete_users
    end
end
complete -c atomwrite -n __atomwrite_command -x -a '(complete -C (__atomwrite_command))'
complete -c atomwrite -s c -l command -d 'Run a shell pipeline for the content' -r -f -a "(__fish_complete_command)"
complete -c atomwrite -l lock -d 'Lock DEST before reading, until the commit' -f
complete -c atomwrite -s t -l target-directory -d 'Write every SOURCE into DIR, in one commit' -r -f -a "(__atomwrite_directories)"
complete -c atomwrite -l files-from -d 'With -t, read the names of SOURCEs from F' -r -F
complete -c atomwrite -l files0-from -d 'The same, with NUL-terminated names' -r -F
complete -c atomwrite -l min-size -d 'Refuse truncated input: fewer than SIZE bytes' -r -f
complete -c atomwrite -l sha256 -d 'Refuse content with another SHA-256 digest' -r -f
complete -c atomwrite -l validate -d 'Refuse content unless sh -c CMD exits with 0' -r -f -a "(__fish_complete_command)"
complete -c atomwrite -l validate-all -d 'With -t, refuse all unless sh -c CMD exits with 0' -r -f -a "(__fish_complete_command)"
complete -c atomwrite -l unchanged-status -d 'Exit with N if -C left DEST alone; implies -C' -r -f
complete -c atomwrite -l keep -d 'Attributes to keep: try (the default), all or none' -r -f -a "try\t'Those that can be kept, with a warning about the rest'
all\t'All of them; if one cannot be kept, fail'
none\t'None of them, as if DEST were new'"
complete -c atomwrite -s m -l mode -d 'Set the mode, octal or symbolic as for chmod(1)' -r -f
complete -c atomwrite -s o -l owner -d 'Set the owner, and the group, by name or number' -r -f -a "(__atomwrite_owners)"
complete -c atomwrite -s g -l group -d 'Set the group, by name or number' -r -f -a "(__fish_complete_groups)"
complete -c atomwrite -s b -l backup -d 'Keep a backup of the old file' -f -a "none\t'No backup'
simple\t'DEST~'
existing\t'Numbered if there are such, else simple'
numbered\t'DEST.~1~, DEST.~2~ and so on'"
complete -c atomwrite -s S -l suffix -d 'End a simple backup with SUFFIX, not ~; implies -b' -r -f
complete -c atomwrite -l sync -d 'What survives power loss: none, file, full (default)' -r -f -a "none\t'No promise; after power loss DEST may be empty, or full of zeros'
file\t'DEST, as the complete old file or the complete new one'
full\t'The new file, once atomwrite has ended with status 0'"
complete -c atomwrite -l inplace -d 'Overwrite a DEST that cannot be replaced; not atomic' -f -a "never\t'Not at all: it is an error (the default)'
auto\t'Only where DEST cannot be replaced'
always\t'Wherever DEST exists: it keeps its inode and its hard links'"
complete -c atomwrite -s a -l append -d 'Append the input to what DEST holds now'
complete -c atomwrite -s n -l no-clobber -d 'Refuse if DEST exists, whatever it is'
complete -c atomwrite -l allow-empty -d 'Accept empty standard input'
complete -c atomwrite -l no-empty -d 'Refuse empty input, also from SOURCE and COMMAND'
complete -c atomwrite -s C -l compare -d 'Leave DEST alone if it has this content already'
complete -c atomwrite -s p -l preserve-timestamps -d 'Preserve the timestamps of SOURCE'
complete -c atomwrite -l no-dereference -d 'Replace a symbolic link itself, not its target'
complete -c atomwrite -s f -l force -d 'Replace a DEST that you may not write to'
complete -c atomwrite -s D -l create-dirs -d 'Create missing parent directories of DEST'
complete -c atomwrite -l fsync -d 'The same as --sync=full'
complete -c atomwrite -l no-fsync -d 'The same as --sync=none'
complete -c atomwrite -l progress -d 'Show progress on standard error, if it is a terminal'
complete -c atomwrite -s v -l verbose -d 'Say what was done, in one line on standard error'
complete -c atomwrite -s q -l quiet -d 'Print errors only, no warnings'
complete -c atomwrite -s h -l help -d 'Print a summary (-h) or all of this help (--help)'
complete -c atomwrite -s V -l version -d 'Print the version'
