"""A Triton model repository, its model that keeps support sets, and the client for it.

In: bundles, pictures from clients. Out: a repository folder; masks. May import: `serving.store`.
(Not called `tritonserver`: inside `serving/` that would hide the library of this name.)
"""
