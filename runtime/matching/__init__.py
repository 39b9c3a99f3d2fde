"""The three graphs on any backend: supports encoded once, queries matched in chunks.

In: prepared pictures and masks, a `Runner`. Out: encoded support sets, also as files, and logits.
May import: `pictures`, `bundle`.
"""
