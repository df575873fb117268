"""An artifact as C99 for microcontrollers: a model that takes a token at a time, from the operators' own C.

layout   when each node runs, and where its values are       text      the C of an operator in a node's types
nodes    what an operator's `c` calls; constants             source    model.h and model.c
project  the folder with its self-test                       measure   what it takes on a Cortex-M, in qemu
"""
