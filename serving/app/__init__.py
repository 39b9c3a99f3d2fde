"""The web page: paint support masks and see results in a browser.

In: HTTP requests, a bundle. Out: the page's files (`page/`), masks and overlays.
May import: `serving.store`.
"""
