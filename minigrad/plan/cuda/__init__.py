"""The CUDA executor: a program as kernels and matrix products, its loop over time captured once as a CUDA graph.

What is a row, how values are moved in it, which expressions there are and what is added up over steps it shares with
the native executor: read that one first. Then in this order:

| file | what it does |
| --- | --- |
| `join.py` | several products as one |
| `layout.py` | what is done: products and kernels |
| `sections.py`, `schedule.py` | which of them compute some values, and in which order; all of a program |
| `expressions.py`, `source.py`, `prelude.cuh` | a kernel's columns; the kernels as CUDA; what they call |
| `blas.py`, `device.py` | products by cuBLAS; compiled kernels, streams and graphs |
| `memory.py`, `executor.py` | the memory of a run; runs |
| `storage.py`, `storage.cuh` | what is kept in 16 bits where that is asked for |
| `beside.py` | runs on two streams, and their backwards |

Of a step in the loop there is, forward and backward, one product and one kernel for each product that waits for
another one's result. What needs no state, or what no later state needs, is computed for all steps at once.
"""
