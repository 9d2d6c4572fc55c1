"""The CUDA executor: a program as kernels and matrix products, its loop over time captured once as a CUDA graph.

What is a row, how values are moved in it, which expressions there are and what is added up over steps it shares with
the native executor: read that one first. Then in this order: `join` (several products as one), `layout` (products and
kernels), `sections` (which of them
compute some values, and in which order), `schedule` (all of a program), `expressions` (a kernel's columns), `source`
with `prelude.cuh` (the kernels as CUDA), `blas` (products), `device` (kernels, streams and graphs), `memory` and
`executor` (runs).

Of a step in the loop there is, forward and backward, one product and one kernel for each product that waits for
another one's result. What needs no state, or what no later state needs, is computed for all steps at once.
"""
