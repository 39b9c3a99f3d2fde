"""The page: paint masks, see answers, in a browser.

In: HTTP requests, a bundle. Out: the page's files (`page/`), masks and overlays.
May import: `serving.store`.
"""
