"""Mathematics on this machine: questions in plain words, answered by SymPy and Pint in a child.

`child.py` is the side of Puna, which can end a child at any moment; all the rest runs in the child,
and knows no tool, no model and no network. Nothing that is asked is ever evaluated as Python.
"""
