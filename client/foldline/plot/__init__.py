"""Curves drawn without a plotting library: in the terminal (terminal) and as a PNG (chart on png, letters from font).

The light client must stay light: matplotlib is 60 MB and 400 ms to import, and all that is needed here is lines, ticks and names.
"""
