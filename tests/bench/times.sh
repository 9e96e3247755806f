# A prefix as measure.py is, for a guest where python takes a tenth of a second to start: `times.sh FILE COMMAND...`
# leaves in FILE what the shell's `times` prints.
file=$1; shift
"$@"
code=$?
times > "$file"
exit $code
