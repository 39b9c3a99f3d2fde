"""A server's bounded store for its clients' values, and checks of their uploads.

In: values and uploads. Out: values by id. May import: no other room.
"""
