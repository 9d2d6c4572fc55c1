"""The native executor: a program as C, compiled once by the machine's compiler, threads and all.

Read in this order: `rows` and `moves` (which columns of which rows each value has, and how it is computed), `places`
and `phase` (what is in memory, and in which order the rest is computed), `sums` (gradients of parameters), `schedule`
(all of that for a program); `expressions` (a loop over columns as C), `operations` and `scalars` (what no such loop
does), `tasks` and `source` (what is done at each step, and the whole as C), `c/` (what every program calls), `memory`,
`executor` and `stepper` (runs, of whole sequences and of single steps). Beside them `parts` (operations by how they are
computed), `toolchain`, `programs` and `cache` (the compiler, how it is run, and what it has compiled before), `pool`
(threads), and what runs outside of layers: `products` of matrices, and `updates` of optimizers, with `elements` (what
one does to each element), `lines` (that as a list of operations) and `sweep` (the list as one compiled pass).
"""
