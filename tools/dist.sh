#!/bin/sh
# Builds wheel and sdist into build/dist, and sees that each can be installed alone and writes Verilog.
set -eu
python=${PYTHON:-python3}
out=build/dist
rm -rf "$out" build/try && mkdir -p "$out"
"$python" -m venv build/try/make
build/try/make/bin/pip install -q --disable-pip-version-check 'setuptools>=77'
build/try/make/bin/python -c "from setuptools import build_meta as b; b.build_sdist('$out'); b.build_wheel('$out')" >/dev/null
for file in "$out"/*; do
    place=build/try/$(basename "$file")
    "$python" -m venv "$place"
    "$place/bin/pip" install -q --disable-pip-version-check -c constraints.txt "$file"
    (cd "$place" && bin/emamba --version && bin/python -m rtl.build verilog --cycles-per-token 1280 >/dev/null)
    "$place/bin/python" -c 'import sys; sys.exit("torch" in sys.modules)'
    echo "dist: $file installs alone and writes Verilog"
done
rm -rf build/try build/lib build/bdist.*
