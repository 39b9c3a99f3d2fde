"""What a server keeps for its clients, within bounds, and looks at before it believes it.

In: values and uploads. Out: values by id. May import: no other room.
"""
