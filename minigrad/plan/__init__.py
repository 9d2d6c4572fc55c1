"""The plan: a cell's step, traced once, as one program for a whole sequence, forward and backward.

In the order in which a step becomes a program:

| file | what it does |
| --- | --- |
| `abstract.py` | arrays without values, with which a step is traced |
| `classes.py`, `kinds.py` | what a step can read: from a class, and from any object that a cell holds |
| `shadow.py` | a key of all that; a copy of the cell made of arrays without values |
| `graph.py` | the values of a step, each made once, and what each depends on |
| `operations.py`, `bounds.py`, `simplify.py`, `pieces.py`, `tables.py` | rules that make new values cheaper |
| `fuse.py` | what can be made cheaper only when the whole step is known |
| `trace.py`, `needs.py` | the forward traced, the backward derived by the tape's own rules; where gradients flow |
| `program.py` | every value in the bin that says when it is computed: once, in the loop, for many steps at once |
| `explain.py` | the program in words |

This is the program, which knows no executor. The one for NumPy and CuPy arrays:

| file | what it does |
| --- | --- |
| `layout.py` | which values share memory, for how many steps, and which are views |
| `flat.py` | the program as flat calls of array functions |
| `workspace.py` | the memory of one run, and the views of it that these calls take |
| `executor.py` | a run, chunk by chunk, forward and backward |

`native/` holds another, which writes the program as C, and `cuda/` one that writes it as kernels for a GPU. At last
what connects it with the rest:

| file | what it does |
| --- | --- |
| `executors.py` | which executor runs a program |
| `plans.py` | the plans of a layer, by the key of the call |
| `record.py` | a run on the tape as one operation; gradients of gradients |
| `engine.py` | finds or makes the plan for a call, and runs it |
"""
