"""
The benchmark: tcpsvc and its peers, side by side in one run.

C{python -m bench} measures, prints and, with C{--write}, makes the tables and plots
of docs/performance.rst.
"""
