"""The register table, and what is written from it."""

import re
import subprocess
from pathlib import Path

import pytest
from systemrdl import RDLCompiler
from systemrdl.node import RegNode

from rtl.system import exports, registers
from rtl.system.registers import BY_NAME, REGISTERS, SPAN, Access

pytestmark = pytest.mark.quick

DOCS = Path(__file__).parents[1] / "docs" / "registers.md"


def test_every_address_is_one_register():
    addresses = [register.address(k) for register in REGISTERS for k in range(register.count)]
    assert len(set(addresses)) == len(addresses) and len(BY_NAME) == len(REGISTERS)
    assert max(addresses) < SPAN and not any(address % 4 for address in addresses)
    for register in REGISTERS:
        bits = [bit for field in register.fields for bit in range(field.low, field.low + field.width)]
        assert len(set(bits)) == len(bits) and max(bits, default=0) < 32
    with pytest.raises(IndexError, match="DIGEST has 8 words, not a word 8"):
        registers.address("DIGEST", 8)


def test_systemrdl(tmp_path):
    """PeakRDL's compiler reads the same table."""
    path = tmp_path / "registers.rdl"
    path.write_text(exports.systemrdl())
    compiler = RDLCompiler()
    compiler.compile_file(str(path))
    found = {node.inst_name: node for node in compiler.elaborate().top.descendants() if isinstance(node, RegNode)}
    assert set(found) == set(BY_NAME)
    for register in REGISTERS:
        node = found[register.name]
        assert node.raw_address_offset == register.offset
        assert node.array_dimensions == ([register.count] if register.count > 1 else None)
        assert node.array_stride == (register.stride if register.count > 1 else None)
        assert node.has_sw_readable == (register.access is not Access.WRITE)
        assert node.has_sw_writable == (register.access is not Access.READ)
        fields = {field.inst_name: (field.low, field.width, field.get_property("reset")) for field in node.fields()}
        assert fields == ({field.name: (field.low, field.width, field.reset) for field in register.fields}
                          or {"VALUE": (0, 32, 0)})


def test_c_header(tmp_path):
    """A C compiler reads it, twice, and has the same numbers."""
    names = [register.name for register in REGISTERS]
    masks = [f"{register.name}_{field.name}" for register in REGISTERS for field in register.fields]
    prints = "".join(f'printf("%u\\n", EMAMBA_{name});' for name in [*names, *masks])
    (tmp_path / "registers.h").write_text(exports.c_header())
    (tmp_path / "main.c").write_text('#include <stdio.h>\n#include "registers.h"\n#include "registers.h"\n'
                                     f"int main(void) {{ {prints} return EMAMBA_MAGIC_VALUE != {registers.MAGIC}u; }}\n")
    subprocess.run(["cc", "-Wall", "-Werror", "-o", tmp_path / "main", tmp_path / "main.c"], check=True)
    printed = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True).stdout
    wanted = [register.offset for register in REGISTERS] + [field.mask for register in REGISTERS for field in register.fields]
    assert list(map(int, printed.split())) == wanted


def test_documentation():
    """docs/registers.md holds the table as it is: `python -m rtl.system.exports` writes it."""
    text = DOCS.read_text(encoding="utf-8")
    assert exports.markdown() in text
    assert not set(re.findall(r"`([A-Z_]{4,})`", text)) - set(BY_NAME) - {f.name for r in REGISTERS for f in r.fields}
