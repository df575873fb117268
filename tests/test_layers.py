"""The layers that pyproject.toml names are checked: an import upwards, a circle, or torch below training fails."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

PACKAGES = ("emamba", "rtl", "sim", "boards", "asic", "flow", "verify", "benchmarks")


@pytest.mark.parametrize("module, line, said", [
    ("emamba/base/errors.py", "", "0 broken"),
    ("rtl/kit/streams.py", "import flow.compare", "rtl is not allowed to import flow"),
    ("emamba/ops/certificate.py", "import emamba.artifact", "emamba.ops is not allowed to import emamba.artifact"),
    ("rtl/kit/packing.py", "import rtl.blocks.linear", "rtl.kit is not allowed to import rtl.blocks"),
    ("flow/search/space.py", "import flow.search.search", ".space -> .search (1 import)"),
    ("rtl/plan/cost.py", "import torch", "rtl is not allowed to import torch"),
])
def test_planted_import(tmp_path, module, line, said):
    shutil.copy("pyproject.toml", tmp_path)
    for package in PACKAGES:
        shutil.copytree(package, tmp_path / package, ignore=lambda folder, names: [
            name for name in names if Path(folder, name).is_file() and not name.endswith(".py")])
    with (tmp_path / module).open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    done = subprocess.run([Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"], cwd=tmp_path,
                          capture_output=True, text=True)
    assert said in done.stdout and done.returncode == bool(line)
