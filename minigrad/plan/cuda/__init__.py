"""The CUDA executor: a program as kernels and matrix products, its loop over time captured once as a CUDA graph.

Read in this order: `rows` (which programs are rows, and which element is which), `sums` (gradients as sums over steps),
`layout` (what is in memory), `sections` (which products and kernels compute it, and when), `schedule` (all of a
program), `expressions` (a kernel's columns), `source` with `prelude.cuh` (the kernels as CUDA), `blas` (products),
`device` (kernels, streams and graphs), `memory` and `executor` (runs).

Of a step in the loop there is, forward and backward, one product and one kernel for each product that waits for
another one's result. What needs no state, or what no later state needs, is computed for all steps at once.
"""
