# fish completion for all programs of blockdiff; each of their names here is a link to this file.
# The program itself knows what fits: it is asked, with what was typed so far.

functions --query __blockdiff_complete; and return # another of the links came first: nothing twice

function __blockdiff_complete --argument-names program
    set -l variable (string upper -- _(string replace --all -- - _ $program)_COMPLETE)
    set -l word (commandline --current-token --cut-at-cursor)
    env COMP_WORDS=(commandline --cut-at-cursor --current-process | string collect) COMP_CWORD="$word" \
        $variable=fish_complete $program 2>/dev/null | while read --local --delimiter , type value
        switch $type
            case plain
                printf '%s\n' $value
            case dir
                __fish_complete_directories $word ''
            case file
                __fish_complete_path $word ''
        end
    end
end

for program in blockdiff blockdiff-backup blockdiff-check blockdiff-report blockdiff-consolidate blockdiff-copy blockdiff-drill blockdiff-dump blockdiff-list blockdiff-look blockdiff-merge \
        blockdiff-nbd blockdiff-prune blockdiff-run blockdiff-verify cronlog mysqllock ssh-blockdiff-dump ssh-lvm-dump blockdiff_backup blockdiff_dump blockdiff_merge \
        ssh_blockdiff_dump ssh_lvm_dump
    complete --command $program --no-files --arguments "(__blockdiff_complete $program)"
end
