"""The native executor: a program as C, compiled once by the machine's compiler, threads and all.

Read in this order: `parts` (which programs are rows, and which element is which), `schedule` (what is in memory, and in
which order it is computed), `expressions` (a loop as C), `source` (the whole as C), `c/` (what every program calls),
`executor` (memory and runs); beside them `toolchain` and `cache` (the compiler, and what it has compiled before) and
`pool` (threads).
"""
