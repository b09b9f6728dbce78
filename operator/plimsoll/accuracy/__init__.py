"""How right sizing is: start-up logs and planned tables held against what it says.

Nothing here knows a terminal or a cluster; the files that are scored are read by `reading`.
"""
