"""Proofs, mutants, planted faults, random traffic and mutated files: `python -m verify`.

By other tools: Yosys makes the mutants of the hardware, ABC proves, Verilator and Icarus run, hypothesis draws and shrinks the
cases of `fuzz` and `shapes`. By hand, and why:

- `mutations`: strategies of hypothesis make values, and know no safetensors, no archives and no digest that must be right again.
- `arithmetic`: mutmut and cosmic-ray run a test suite for each mutant; here one computation in exact fractions judges them.
- `netlist`, `plant`: names of mutants and places of faults that an edit of the source does not change.
"""
