"""The investigations as the notebooks call them: each method answers one question with a table, a chart or a result.

The notebooks in ``notebooks/investigate/`` hold no logic; this is it. All of them only read
(a live look at the queues receives messages and returns them).
"""

from __future__ import annotations
