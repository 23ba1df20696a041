
using namespace System.Management.Automation
using namespace System.Management.Automation.Language

Register-ArgumentCompleter -Native -CommandName 'atomwrite' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commandElements = $commandAst.CommandElements
    $command = @(
        'atomwrite'
        for ($i = 1; $i -lt $commandElements.Count; $i++) {
            $element = $commandElements[$i]
            if ($element -isnot [StringConstantExpressionAst] -or
                $element.StringConstantType -ne [StringConstantType]::BareWord -or
                $element.Value.StartsWith('-') -or
                $element.Value -eq $wordToComplete) {
                break
        }
        $element.Value
    }) -join ';'

    $completions = @(switch ($command) {
        'atomwrite' {
            [CompletionResult]::new('-c', '-c', [CompletionResultType]::ParameterName, 'Run a shell pipeline for the content')
            [CompletionResult]::new('--command', '--command', [CompletionResultType]::ParameterName, 'Run a shell pipeline for the content')
            [CompletionResult]::new('--lock', '--lock', [CompletionResultType]::ParameterName, 'Lock DEST before reading, until the commit')
            [CompletionResult]::new('-t', '-t', [CompletionResultType]::ParameterName, 'Write every SOURCE into DIR, in one commit')
            [CompletionResult]::new('--target-directory', '--target-directory', [CompletionResultType]::ParameterName, 'Write every SOURCE into DIR, in one commit')
            [CompletionResult]::new('--files-from', '--files-from', [CompletionResultType]::ParameterName, 'With -t, read the names of SOURCEs from F')
            [CompletionResult]::new('--files0-from', '--files0-from', [CompletionResultType]::ParameterName, 'The same, with NUL-terminated names')
            [CompletionResult]::new('--min-size', '--min-size', [CompletionResultType]::ParameterName, 'Refuse truncated input: fewer than SIZE bytes')
            [CompletionResult]::new('--sha256', '--sha256', [CompletionResultType]::ParameterName, 'Refuse content with another SHA-256 digest')
            [CompletionResult]::new('--validate', '--validate', [CompletionResultType]::ParameterName, 'Refuse content unless sh -c CMD exits with 0')
            [CompletionResult]::new('--validate-all', '--validate-all', [CompletionResultType]::ParameterName, 'With -t, refuse all unless sh -c CMD exits with 0')
            [CompletionResult]::new('--unchanged-status', '--unchanged-status', [CompletionResultType]::ParameterName, 'Exit with N if -C left DEST alone; implies -C')
            [CompletionResult]::new('--keep', '--keep', [CompletionResultType]::ParameterName, 'Attributes to keep: try (the default), all or none')
            [CompletionResult]::new('-m', '-m', [CompletionResultType]::ParameterName, 'Set the mode, octal or symbolic as for chmod(1)')
            [CompletionResult]::new('--mode', '--mode', [CompletionResultType]::ParameterName, 'Set the mode, octal or symbolic as for chmod(1)')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Set the owner, and the group, by name or number')
            [CompletionResult]::new('--owner', '--owner', [CompletionResultType]::ParameterName, 'Set the owner, and the group, by name or number')
            [CompletionResult]::new('-g', '-g', [CompletionResultType]::ParameterName, 'Set the group, by name or number')
            [CompletionResult]::new('--group', '--group', [CompletionResultType]::ParameterName, 'Set the group, by name or number')
            [CompletionResult]::new('-b', '-b', [CompletionResultType]::ParameterName, 'Keep a backup of the old file')
            [CompletionResult]::new('--backup', '--backup', [CompletionResultType]::ParameterName, 'Keep a backup of the old file')
            [CompletionResult]::new('-S', '-S ', [CompletionResultType]::ParameterName, 'End a simple backup with SUFFIX, not ~; implies -b')
            [CompletionResult]::new('--suffix', '--suffix', [CompletionResultType]::ParameterName, 'End a simple backup with SUFFIX, not ~; implies -b')
            [CompletionResult]::new('--sync', '--sync', [CompletionResultType]::ParameterName, 'What survives power loss: none, file, full (default)')
            [CompletionResult]::new('--inplace', '--inplace', [CompletionResultType]::ParameterName, 'Overwrite a DEST that cannot be replaced; not atomic')
            [CompletionResult]::new('-a', '-a', [CompletionResultType]::ParameterName, 'Append the input to what DEST holds now')
            [CompletionResult]::new('--append', '--append', [CompletionResultType]::ParameterName, 'Append the input to what DEST holds now')
            [CompletionResult]::new('-n', '-n', [CompletionResultType]::ParameterName, 'Refuse if DEST exists, whatever it is')
            [CompletionResult]::new('--no-clobber', '--no-clobber', [CompletionResultType]::ParameterName, 'Refuse if DEST exists, whatever it is')
            [CompletionResult]::new('--allow-empty', '--allow-empty', [CompletionResultType]::ParameterName, 'Accept empty standard input')
            [CompletionResult]::new('--no-empty', '--no-empty', [CompletionResultType]::ParameterName, 'Refuse empty input, also from SOURCE and COMMAND')
            [CompletionResult]::new('-C', '-C ', [CompletionResultType]::ParameterName, 'Leave DEST alone if it has this content already')
            [CompletionResult]::new('--compare', '--compare', [CompletionResultType]::ParameterName, 'Leave DEST alone if it has this content already')
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'Preserve the timestamps of SOURCE')
            [CompletionResult]::new('--preserve-timestamps', '--preserve-timestamps', [CompletionResultType]::ParameterName, 'Preserve the timestamps of SOURCE')
            [CompletionResult]::new('--no-dereference', '--no-dereference', [CompletionResultType]::ParameterName, 'Replace a symbolic link itself, not its target')
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'Replace a DEST that you may not write to')
            [CompletionResult]::new('--force', '--force', [CompletionResultType]::ParameterName, 'Replace a DEST that you may not write to')
            [CompletionResult]::new('-D', '-D ', [CompletionResultType]::ParameterName, 'Create missing parent directories of DEST')
            [CompletionResult]::new('--create-dirs', '--create-dirs', [CompletionResultType]::ParameterName, 'Create missing parent directories of DEST')
            [CompletionResult]::new('--fsync', '--fsync', [CompletionResultType]::ParameterName, 'The same as --sync=full')
            [CompletionResult]::new('--no-fsync', '--no-fsync', [CompletionResultType]::ParameterName, 'The same as --sync=none')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'Show progress on standard error, if it is a terminal')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say what was done, in one line on standard error')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say what was done, in one line on standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print errors only, no warnings')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print errors only, no warnings')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print a summary (-h) or all of this help (--help)')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print a summary (-h) or all of this help (--help)')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print the version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print the version')
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}
