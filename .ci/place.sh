# Shared by ./demo and ./check: work where everybody can read. As root the sandbox and the tests run certctl as users
# without rights too, as a host does, and these read nothing of a checkout below root's 0700 home. POSIX sh; the caller
# has set -eu and is in the project's directory.
# shellcheck shell=sh

copies=/var/cache/certctl-checkout
of_tools='.venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis __pycache__'

# work_where_all_can_read ARGUMENTS...   go on here; or, for root in a checkout of root's alone, in an up-to-date copy,
# as the same program with the same arguments
work_where_all_can_read() {
    [ "$(id -u)" -eq 0 ] || return 0
    umask 022
    case "$(pwd)" in "$copies"/*) return 0 ;; esac
    if setpriv --reuid=65534 --regid=65534 --clear-groups test -r "$(pwd)/${0##*/}"; then return 0; fi
    copy="$copies/$(pwd | sha256sum | cut -c1-16)"
    printf '  only root can read %s, and certctl runs as other users too: working in a copy, %s\n' "$(pwd)" "$copy"
    mkdir -p "$copy"
    (
        flock 9
        bring_up_to_date "$copy"
    ) 9>"$copy.lock"
    cd "$copy"
    exec "./${0##*/}" "$@"
}

# Bring what was changed over, with the history (tests ask git what is certctl's), and leave .venv and the caches of
# tools alone.
bring_up_to_date() {
    # shellcheck disable=SC2046,SC2086 # the words are ours
    diff -rq --exclude=.git $(printf ' --exclude=%s' $of_tools) . "$1" >/dev/null 2>&1 && return 0
    for theirs in "$1"/* "$1"/.[!.]*; do
        is_of_tools "$theirs" || rm -rf "$theirs"
    done
    for ours in ./* ./.[!.]*; do
        is_of_tools "$ours" || cp -R --preserve=timestamps,links "$ours" "$1/"
    done
    find "$1" -path "$1/.venv" -prune -o -path "$1/.cache" -prune -o ! -type l -exec chmod a+rX {} +
}

is_of_tools() { case " $of_tools " in *" ${1##*/} "*) ;; *) return 1 ;; esac }
