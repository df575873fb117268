"""Writes the register table as a C header, as SystemRDL, and as the table of docs/registers.md."""

import sys

from .registers import INTERFACE, MAGIC, REGISTERS, SPAN, Access, Field, Register


def c_header() -> str:
    """Offsets, strides and masks for C."""
    lines = ["/* Registers of the accelerator, written from rtl/system/registers.py. Offsets in bytes. */",
             "#ifndef EMAMBA_REGISTERS_H", "#define EMAMBA_REGISTERS_H", "", f"#define EMAMBA_MAGIC_VALUE {MAGIC:#010x}u",
             f"#define EMAMBA_INTERFACE_VALUE {INTERFACE[0] << 16 | INTERFACE[1]:#010x}u", f"#define EMAMBA_SPAN {SPAN:#x}u", ""]
    for register in REGISTERS:
        comment = f"{register.access.value}: {register.description}"
        lines.append(f"#define EMAMBA_{register.name} {register.offset:#06x}u /* {comment} */")
        if register.count > 1:
            lines += [f"#define EMAMBA_{register.name}_COUNT {register.count}u",
                      f"#define EMAMBA_{register.name}_STRIDE {register.stride}u"]
        lines += [f"#define EMAMBA_{register.name}_{field.name} {field.mask:#010x}u" for field in register.fields]
    return "\n".join([*lines, "", "#endif", ""])


def systemrdl() -> str:
    """The table in SystemRDL 2.0."""
    access = {Access.READ: "sw = r; hw = w;", Access.WRITE: "sw = w; hw = r;", Access.BOTH: "sw = rw; hw = r;",
              Access.CLEAR: "sw = rw; hw = rw; onwrite = woclr;"}
    lines = ["addrmap emamba {", '    name = "accelerator";', "    default regwidth = 32;", "    default accesswidth = 32;"]
    for register in REGISTERS:
        lines += ["    reg {", f'        desc = "{_escaped(register.description)}";']
        for field in register.fields or (Field("VALUE", 0, 32, register.description),):
            lines.append(f'        field {{ desc = "{_escaped(field.description)}"; {access[register.access]} '
                         f"reset = {field.reset:#x}; }} {field.name}[{field.low + field.width - 1}:{field.low}];")
        row = register.count > 1
        lines.append(f"    }} {register.name}{f'[{register.count}]' if row else ''} @ {register.offset:#x}"
                     f"{f' += {register.stride:#x}' if row else ''};")
    return "\n".join([*lines, "};", ""])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def markdown() -> str:
    """The table of docs/registers.md."""
    lines = ["| offset | register | access | holds |", "| --- | --- | --- | --- |"]
    for register in REGISTERS:
        words = f" × {register.count}, every {register.stride}" if register.count > 1 else ""
        fields = "; ".join(f"`{field.name}` {_bits(field)}{_needed(field)}: {field.description}" for field in register.fields
                           if field.width < 32)
        text = register.description + _needed(register) + (f". {fields}" if fields else "")
        lines.append(f"| {register.offset:#05x}{words} | `{register.name}` | {register.access.value} | {text} |")
    return "\n".join([*lines, ""])


def _bits(field: Field) -> str:
    return f"[{field.low}]" if field.width == 1 else f"[{field.low + field.width - 1}:{field.low}]"


def _needed(part: Register | Field) -> str:
    return f" (`{part.capability}`)" if part.capability else ""


WRITERS = {"markdown": markdown, "c": c_header, "rdl": systemrdl}

if __name__ == "__main__":
    print(WRITERS[sys.argv[1] if len(sys.argv) > 1 else "markdown"](), end="")
