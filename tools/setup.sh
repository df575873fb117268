#!/bin/sh
# Makes .venv with every extra, and sees that the programs beside Python are there. Says before it does what it will install, and
# asks nothing. With EMAMBA_SETUP=no-packages it leaves the system's packages alone. One sentence where something is missing.
set -eu
say() { echo "setup: $1"; }
fail() { say "$1" >&2; exit 1; }

python=${PYTHON:-python3}
command -v "$python" >/dev/null || fail "$python is not on PATH; install Python 3.11 or later"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is older than 3.11; name a newer one with PYTHON=..."
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "Python's venv module is missing; install it, e.g. apt-get install python3-venv"
case ${EMAMBA_SETUP:-} in
    "" | no-packages) ;;
    *) fail "EMAMBA_SETUP=$EMAMBA_SETUP is unknown; no-packages is the only choice" ;;
esac

# The packages of those commands, given as command:package, that are not there.
missing() {
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || printf ' %s' "${pair##*:}"
    done
}
PATH=$PATH:$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tr '\n' ':')  # where Debian keeps a server's programs
needed=$(missing g++:g++ perl:perl)  # what Verilator takes to build a simulation
optional=$(missing initdb:postgresql iverilog:iverilog tclsh:tcl dtc:device-tree-compiler sta:opensta \
    arm-none-eabi-gcc:gcc-arm-none-eabi qemu-system-arm:qemu-system-arm \
    riscv64-unknown-elf-gcc:gcc-riscv64-unknown-elf qemu-system-riscv32:qemu-system-misc)  # some tests' alone

install() { $sudo apt-get install -qq -y --no-install-recommends $1 >/dev/null; }
if [ -n "$needed$optional" ]; then
    if [ "${EMAMBA_SETUP:-}" = no-packages ]; then way="EMAMBA_SETUP forbids it"
    elif ! command -v apt-get >/dev/null; then way="there is no apt-get here"
    elif [ "$(id -u)" = 0 ]; then way= sudo=
    elif sudo -n true 2>/dev/null; then way= sudo="sudo -n"
    else way="that takes root, or sudo without a password"
    fi
    if [ -z "$way" ]; then
        say "installs the system's packages$needed$optional by ${sudo:+sudo }apt-get; EMAMBA_SETUP=no-packages leaves them out"
        $sudo apt-get update -qq || say "the lists of the system's packages could not be renewed" >&2
        [ -z "$needed" ] || install "$needed" || fail "the system's package manager could not install:$needed"
        for package in $optional; do
            install "$package" || say "the system's package manager could not install $package: tests that need it will fail" >&2
        done
    else
        [ -z "$needed" ] || fail "these packages are missing and not installed from here, since $way; install them:$needed"
        say "not installed, since $way:$optional; tests that need them will fail" >&2
    fi
fi

say ".venv gets the Python packages of hashes.txt, 500 MB, and torch, 200 MB to 3 GB, which takes minutes"
[ -x .venv/bin/python ] || "$python" -m venv .venv
pip() { .venv/bin/python -m pip "$@" -q --disable-pip-version-check --no-compile; }
pip install --require-hashes --no-deps -r hashes.txt
say "now torch, the largest, and this package"
pip install --no-build-isolation -c constraints.txt -e '.[train,data,search,synthesis,asic,onnx,test,docs]'  # adds torch
.venv/bin/python -m compileall -q -j 0 -x '/tests?/' .venv/lib >/dev/null 2>&1 || :  # on all cores; pip would take one
touch .venv/ready
say "ready: '. .venv/bin/activate' puts emamba on PATH, 'make demo' shows it at work"
