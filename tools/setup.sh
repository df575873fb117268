#!/bin/sh
# Makes .venv with every extra, and sees that the simulators' needs are there. Prints one sentence where something is missing.
set -eu
fail() { echo "setup: $1" >&2; exit 1; }

python=${PYTHON:-python3}
command -v "$python" >/dev/null || fail "$python is not on PATH; install Python 3.11 or later"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is older than 3.11; name a newer one with PYTHON=..."
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "Python's venv module is missing; install it, e.g. apt-get install python3-venv"

# Debian packages: the command that must exist, and the package that has it.
missing=
PATH=$PATH:$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tr '\n' ':')  # where Debian keeps a server's programs
for pair in initdb:postgresql iverilog:iverilog g++:g++ perl:perl tclsh:tcl dtc:device-tree-compiler sta:opensta; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
done
if [ -n "$missing" ]; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then sudo=
    elif command -v apt-get >/dev/null && sudo -n true 2>/dev/null; then sudo="sudo -n"
    else fail "these programs are missing and may not be installed from here; install the packages:$missing"
    fi
    $sudo apt-get update -qq && $sudo apt-get install -qq -y --no-install-recommends $missing >/dev/null ||
        fail "the system's package manager could not install:$missing"
fi

echo "setup: .venv gets its packages, which takes minutes"
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[train,data,search,report,synthesis,constants,test,docs]'
touch .venv/ready
