# Shared by ./demo and ./check: put on this machine what they need, once. POSIX sh; the caller has set -eu and is in
# the project's directory. Root or sudo is used for apt only; everything else stays below .venv and .cache, but for place.sh's copy.
# shellcheck shell=sh

export PATH="$PATH:/usr/sbin:/sbin" # where Debian keeps nginx, also for those whose PATH lacks it
export PIP_DISABLE_PIP_VERSION_CHECK=1
pebble_help='-dnsserver' # a word of Pebble's help that proves a binary starts on this machine

say() { printf '  %s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

nginx_lua=/usr/lib/nginx/modules/ngx_http_lua_module.so:libnginx-mod-http-lua

# prepare GROUP COMMAND:PACKAGE...   GROUP is a dependency group of pyproject.toml, or "" for none. A file will do for
# a command.
prepare() {
    group=$1
    shift
    mkdir -p .cache
    # One at a time: ./demo and ./check may be started together.
    (
        flock 9
        ensure_packages python3:python3 "$@"
        ensure_python "$group"
        case " $* " in *" pebble:pebble "*) ensure_newer_pebble ;; esac
    ) 9>.cache/install.lock
}

# Install the packages whose command or file is missing; nothing missing costs nothing.
ensure_packages() {
    missing=
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || [ -e "${pair%%:*}" ] || missing="$missing ${pair#*:}"
    done
    "$(python_of_all)" -c 'import ensurepip, venv' >/dev/null 2>&1 || missing="$missing python3-venv"
    [ -n "$missing" ] || return 0
    say "apt: installing$missing (a minute on a new machine)"
    # RUNLEVEL=1 asks Debian not to start services on installation: a new nginx stays off, one that runs is left alone.
    for step in update "install -y --no-install-recommends$missing"; do
        # shellcheck disable=SC2086 # the words are ours
        as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 $step \
            9>&- </dev/null >.cache/apt.log 2>&1 || { tail -n 15 .cache/apt.log >&2; fail "apt-get $step failed"; }
    done
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        echo "run this as root, or install sudo" >&2
        return 1
    fi
}

# In modes shared and lua root's commands reach files as another user, so a Python in root's home is of no use there.
python_of_all() {
    found=$(command -v python3)
    case "$(id -u) $(readlink -f "$found")" in
    "0 /root/"*) if /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>&-; then found=/usr/bin/python3; fi ;;
    esac
    echo "$found"
}

# Make .venv, and again when pyproject.toml, requirements.lock, the Python or this directory's place has changed.
ensure_python() {
    python=$(python_of_all)
    wanted=$({ cat pyproject.toml requirements.lock; "$python" -V; pwd; } | sha256sum | cut -c1-16)
    for stamp in ".venv/.ready-$wanted-$1" ".venv/.ready-$wanted-dev"; do
        [ -f "$stamp" ] && [ -x .venv/bin/python ] && return 0
    done
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 or newer is needed"
    say "pip: installing into .venv (a minute on a new machine)"
    # A .venv knows its own place: one that was copied or moved here does not work.
    base='import sys; print(sys.base_prefix)'
    grep -qsF "$(pwd)/.venv/bin/python" .venv/bin/pip && [ "$(.venv/bin/python -c "$base")" = "$("$python" -c "$base")" ] ||
        "$python" -m venv --clear .venv
    # What is locked comes first and with the distribution's own pip, as on a server.
    venv_pip --require-hashes -r requirements.lock || fail "pip could not install requirements.lock"
    venv_pip --no-deps --no-build-isolation -e . || fail "pip could not install certctl"
    if [ -n "$1" ]; then
        # Dependency groups need pip 25.1; Debian 12 has 23.0.
        venv_pip --upgrade pip || fail "pip could not be upgraded"
        venv_pip --group "$1" || fail "pip could not install the group $1"
    fi
    : >".venv/.ready-$wanted-$1"
}

venv_pip() { .venv/bin/python -m pip install -qq "$@" 9>&-; }

# Debian 12 has Pebble 2.4.0; from 2.10 on there are ARI and profiles. Fetch a newer one from a newer suite of this
# machine's own archive and keep it in .venv; without it everything works on the older. Tried once per .venv.
ensure_newer_pebble() {
    [ ! -x .venv/bin/pebble ] && [ ! -e .venv/.pebble-tried ] || return 0
    : >.venv/.pebble-tried
    for suite in testing unstable; do
        say "apt: looking for a newer Pebble in Debian $suite"
        if (fetch_pebble "$suite") 9>&- </dev/null >.cache/pebble.log 2>&1; then return 0; fi
    done
    say "none to be had: Debian's own Pebble will do"
}

# Runs with its failures ignored by set -e (it is the condition of an "if"), hence every && by hand.
fetch_pebble() {
    here="$(pwd)/.cache/pebble"
    site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | head -n 1)
    key=$(apt-get indextargets --format '$(SIGNED_BY)' 'Created-By: Packages' | head -n 1)
    [ -f "$key" ] || key= # a fingerprint or an inline key: apt's own trusted keys decide
    set -- "$1" -q -o Dir::Etc::sourcelist="$here/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$here/lists" -o Dir::Cache="$here/cache" -o APT::Sandbox::User=root \
        -o Acquire::Languages=none -o Acquire::Retries=1 -o Acquire::http::Timeout=20
    suite=$1
    shift
    rm -rf "$here" &&
        mkdir -p "$here/lists/partial" "$here/cache/archives/partial" "$here/unpacked" &&
        [ -n "$site" ] &&
        echo "deb ${key:+[signed-by=$key] }$site $suite main" >"$here/sources.list" &&
        apt-get "$@" update &&
        (cd "$here" && apt-get "$@" download pebble && dpkg-deb -x pebble_*.deb unpacked) &&
        "$here/unpacked/usr/bin/pebble" -help 2>&1 | grep -q -e "$pebble_help" &&
        cp "$here/unpacked/usr/bin/pebble" .venv/bin/pebble.new &&
        mv .venv/bin/pebble.new .venv/bin/pebble &&
        rm -rf "$here"
}
