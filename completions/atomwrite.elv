
use builtin;
use str;

set edit:completion:arg-completer[atomwrite] = {|@words|
    fn spaces {|n|
        builtin:repeat $n ' ' | str:join ''
    }
    fn cand {|text desc|
        edit:complex-candidate $text &display=$text' '(spaces (- 14 (wcswidth $text)))$desc
    }
    var command = 'atomwrite'
    for word $words[1..-1] {
        if (str:has-prefix $word '-') {
            break
        }
        set command = $command';'$word
    }
    var completions = [
        &'atomwrite'= {
            cand -c 'Run a shell pipeline for the content'
            cand --command 'Run a shell pipeline for the content'
            cand --lock 'Lock DEST before reading, until the commit'
            cand -t 'Write every SOURCE into DIR, in one commit'
            cand --target-directory 'Write every SOURCE into DIR, in one commit'
            cand --files-from 'With -t, read the names of SOURCEs from F'
            cand --files0-from 'The same, with NUL-terminated names'
            cand --min-size 'Refuse truncated input: fewer than SIZE bytes'
            cand --sha256 'Refuse content with another SHA-256 digest'
            cand --validate 'Refuse content unless sh -c CMD exits with 0'
            cand --validate-all 'With -t, refuse all unless sh -c CMD exits with 0'
            cand --unchanged-status 'Exit with N if -C left DEST alone; implies -C'
            cand --keep 'Attributes to keep: try (the default), all or none'
            cand -m 'Set the mode, octal or symbolic as for chmod(1)'
            cand --mode 'Set the mode, octal or symbolic as for chmod(1)'
            cand -o 'Set the owner, and the group, by name or number'
            cand --owner 'Set the owner, and the group, by name or number'
            cand -g 'Set the group, by name or number'
            cand --group 'Set the group, by name or number'
            cand -b 'Keep a backup of the old file'
            cand --backup 'Keep a backup of the old file'
            cand -S 'End a simple backup with SUFFIX, not ~; implies -b'
            cand --suffix 'End a simple backup with SUFFIX, not ~; implies -b'
            cand --sync 'What survives power loss: none, file, full (default)'
            cand --inplace 'Overwrite a DEST that cannot be replaced; not atomic'
            cand -a 'Append the input to what DEST holds now'
            cand --append 'Append the input to what DEST holds now'
            cand -n 'Refuse if DEST exists, whatever it is'
            cand --no-clobber 'Refuse if DEST exists, whatever it is'
            cand --allow-empty 'Accept empty standard input'
            cand --no-empty 'Refuse empty input, also from SOURCE and COMMAND'
            cand -C 'Leave DEST alone if it has this content already'
            cand --compare 'Leave DEST alone if it has this content already'
            cand -p 'Preserve the timestamps of SOURCE'
            cand --preserve-timestamps 'Preserve the timestamps of SOURCE'
            cand --no-dereference 'Replace a symbolic link itself, not its target'
            cand -f 'Replace a DEST that you may not write to'
            cand --force 'Replace a DEST that you may not write to'
            cand -D 'Create missing parent directories of DEST'
            cand --create-dirs 'Create missing parent directories of DEST'
            cand --fsync 'The same as --sync=full'
            cand --no-fsync 'The same as --sync=none'
            cand --progress 'Show progress on standard error, if it is a terminal'
            cand -v 'Say what was done, in one line on standard error'
            cand --verbose 'Say what was done, in one line on standard error'
            cand -q 'Print errors only, no warnings'
            cand --quiet 'Print errors only, no warnings'
            cand -h 'Print a summary (-h) or all of this help (--help)'
            cand --help 'Print a summary (-h) or all of this help (--help)'
            cand -V 'Print the version'
            cand --version 'Print the version'
        }
    ]
    $completions[$command]
}
