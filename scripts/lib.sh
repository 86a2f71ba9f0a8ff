# Shared by the scripts of this directory; sourced, not run. POSIX sh.
#
# root            the checkout           VENV   the virtual environment (default ROOT/.venv)
# say TEXT        one line for the reader
# as_root CMD...  run as root (directly, or by sudo without a password); fails if neither is to be had
# apt_install PKG...   install what is missing; says what could not be had, returns 1 then;
#                      PKG:PROGRAM is not needed where that program is, whoever packaged it

set -eu
# Debian keeps these off the path of an ordinary user; iptables and e2fsprogs lie there.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
VENV=${VENV:-$root/.venv}

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }

can_root() { is_root || { command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; }; }

as_root() {
    if is_root; then "$@"; else sudo -n "$@"; fi
}

have_package() {
    case $1 in *:*) command -v "${1#*:}" >/dev/null 2>&1 && return 0 ;; esac
    dpkg-query -W -f '${db:Status-Abbrev}' "${1%%:*}" 2>/dev/null | grep -q '^ii'
}

apt_install() {
    missing=
    for package in "$@"; do
        have_package "$package" || missing="$missing ${package%%:*}"
    done
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null 2>&1 || ! can_root; then
        say "not installed (needs apt and root):$missing"
        return 1
    fi
    say "installing:$missing"
    as_root apt-get update -q >/dev/null || return 1
    # shellcheck disable=SC2086 # a list of package names
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
        -o DPkg::Lock::Timeout=300 $missing >/dev/null || return 1
}

# python_for_venv: print the newest python >= 3.11 that can make a virtual environment.
python_for_venv() {
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        [ -n "$candidate" ] || continue
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        command -v "$candidate"
        return 0
    done
    return 1
}

# make_venv EXTRAS: the virtual environment with this checkout installed in it.
make_venv() {
    python=$(python_for_venv) || die "no python 3.11 or newer found; install python3, or name one by PYTHON="
    if ! [ -x "$VENV/bin/python" ]; then
        "$python" -m venv "$VENV" 2>/dev/null || {
            rm -rf --one-file-system "$VENV"
            apt_install python3-venv || die "python3-venv is missing: apt-get install python3-venv"
            "$python" -m venv "$VENV"
        }
    fi
    # Debian's python comes without its header; the extension module is not built then.
    header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
    [ -f "$header" ] || ! command -v cc >/dev/null 2>&1 || apt_install python3-dev || :
    say "virtual environment: $VENV ($("$VENV/bin/python" -V))"
    log=$("$VENV/bin/python" -m pip install -q --disable-pip-version-check -e "$root$1" 2>&1) || {
        say "$log"
        [ -x "$VENV/bin/pycontain" ] || die "the installation of pycontain into $VENV failed"
        say "pip failed; what $VENV holds already is used"
    }
}
