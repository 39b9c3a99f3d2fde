"""The page's bounds, in a real browser: who sees what, what is refused, what a restart costs."""

from __future__ import annotations

import http.client

from extras.app_process import served
from extras.page_driver import Page, iou, photograph

from hsnet_trt.runtime.segmenter import FewShotSegmenter


def test_two_browsers_do_not_mix(page, browser, address, shipped):
    support, pixels, truth = photograph("statue-of-liberty/near.jpg")
    query = photograph("statue-of-liberty/far.jpg")[0]
    other = Page(browser.new_context(), address)
    masks = []
    for one, wanted in ((page, truth), (other, ~truth)):
        one.add_support(support)
        one.paint(wanted, brush=30)
        masks.append(one.mask())
    for one in (page, other):
        one.add_query(query)
    for one in (page, other):
        one.answered()
    with FewShotSegmenter.load(shipped) as segmenter:
        for one, mask in zip((page, other), masks, strict=True):
            segmenter.set_support("object 1", pixels, mask)
            assert (one.labels() == segmenter.segment(query).labels).all()
    assert iou(page.labels() == 1, other.labels() == 1) < 0.2
    other.tab.reload()
    other.tab.wait_for_selector("body[data-ready]")
    assert other.tab.locator(".shot").count() == 0  # there is no list of what others have
    other.tab.context.close()


def test_what_is_wrong_is_said(page, tmp_path):
    bad = tmp_path / "notes.jpg"
    bad.write_bytes(b"no picture at all")
    page.add_query(bad)
    assert "notes.jpg: the photograph is not a picture the server reads" in page.errors()
    page.tab.locator(".class input[type=file]").set_input_files(str(bad))
    page.tab.wait_for_function("() => document.querySelectorAll('#errors .said').length === 2")
    assert page.tab.locator(".shot").count() == 0
    support = photograph("multimeter/red.jpg")[0]
    page.add_support(support)
    other = photograph("windmill/podgoschi.jpg")[0].with_suffix(".png")
    page.tab.locator("#mask-file").set_input_files(str(other))
    page.tab.wait_for_function("() => document.querySelectorAll('#errors .said').length === 3")
    assert "not of its image's size" in page.errors()
    # A browser writes each refusal to its console, too.
    assert all("400 (Bad Request)" in said for said in page.problems)
    page.problems.clear()


def test_a_file_that_is_too_large(browser, shipped):
    photo = photograph("statue-of-liberty/far.jpg")[0]
    with served(shipped, "--max-upload-mb", "0.02") as address:
        page = Page(browser.new_context(), address)
        page.add_query(photo)
        assert (
            "far.jpg: the file is too large" in page.errors() and "0.02 MB at most" in page.errors()
        )
        assert not any("segment" in url or "preview" in url for url in page.asked)
        page.tab.context.close()
        status, body = ask(address, "POST", "/api/preview", photo.read_bytes())
        assert status == 413 and b"--max-upload-mb" in body


def test_no_other_file_can_be_read(address):
    paths = [
        "/../../../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/../app.py",
        "/page/../app.py",
        "/.%00/main.js",
        "/api/pictures/..%2f..%2fetc%2fpasswd",
        "/api/sets/%2fetc%2fpasswd/supports.npz",
        "/main.js/../../app.py",
        "/file:///etc/passwd",
        "/..\\..\\app.py",
    ]
    for path in paths:
        status, body = ask(address, "GET", path)
        assert status == 404, path
        assert b"root:" not in body and b"import" not in body
    assert ask(address, "GET", "/main.js")[0] == 200


def test_other_machines_need_the_token(browser, shipped):
    with served(shipped, "--host", "0.0.0.0") as address:
        port, _, query = address.rpartition(":")[2].partition("/")
        assert query.startswith("?token=")
        page = Page(browser.new_context(), f"http://127.0.0.1:{port}/{query}")
        assert page.tab.url == f"http://127.0.0.1:{port}/"  # the token stays in no history
        page.add_support(photograph("multimeter/red.jpg")[0])
        page.tab.context.close()
        stranger = browser.new_context().new_page()
        assert stranger.goto(f"http://127.0.0.1:{port}/").status == 401
        assert ask(f"http://127.0.0.1:{port}/", "POST", "/api/pictures", b"x")[0] == 401
        stranger.context.close()


def test_the_server_starts_again_and_nobody_notices(browser, shipped, tmp_path):
    support = photograph("statue-of-liberty/near.jpg")[0]
    queries = [photograph(f"statue-of-liberty/{name}.jpg")[0] for name in ("far", "near")]
    with served(shipped) as address:
        port = address.rstrip("/").rpartition(":")[2]
        page = Page(browser.new_context(), address)
        page.add_support(support, support.with_suffix(".png"))
        page.add_query(queries[0])
        page.answered()
        before = page.labels()
        (tmp_path / "kept.npz").write_bytes(page.saved("#save-set"))
    page.add_query(queries[1])
    assert "the server does not answer" in page.errors()
    options = ("--port", port, "--supports", str(tmp_path / "kept.npz"))
    with served(shipped, *options) as address:
        page.tab.click("#segment")
        page.answered(2)
        page.tab.context.close()
        fresh = Page(browser.new_context(), address)  # the classes that --supports gave
        fresh.add_query(queries[0])
        fresh.answered()
        assert (fresh.labels() == before).all()
    with served(shipped, *options):  # the same classes, under other ids
        fresh.add_query(queries[1])
        fresh.answered(2)
        fresh.tab.context.close()


def test_a_class_that_was_renamed_outlives_a_restart(browser, shipped, tmp_path):
    _, pixels, truth = photograph("statue-of-liberty/near.jpg")
    queries = [photograph(f"statue-of-liberty/{name}.jpg")[0] for name in ("far", "near")]
    with FewShotSegmenter.load(shipped) as segmenter:
        segmenter.set_support("statue", pixels, truth)
        segmenter.save_supports(tmp_path / "kept.npz")
    with served(shipped) as address:
        port = address.rstrip("/").rpartition(":")[2]
        page = Page(browser.new_context(), address)
        page.tab.locator("#open-set").set_input_files(str(tmp_path / "kept.npz"))
        page.tab.wait_for_selector(".shot")
        name = page.tab.locator(".class input[type=text]").first
        name.fill("figure")
        name.press("Enter")
        page.add_query(queries[0])
        page.answered()
    with served(shipped, "--port", port, "--supports", str(tmp_path / "kept.npz")) as address:
        page.add_query(queries[1])
        page.answered(2)
        assert "figure" in page.tab.locator(".result figcaption").last.inner_text()
        page.tab.context.close()
        page = Page(browser.new_context(), address)
        page.add_query(queries[0])
        page.answered()
    with served(shipped, "--port", port):  # without the classes that it gave
        page.add_query(queries[1])
        assert "start it with the same --supports" in page.errors()
        page.tab.context.close()


def ask(address: str, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Ask for exactly that path, which a browser would have tidied up."""
    connection = http.client.HTTPConnection(address.split("/")[2], timeout=30)
    connection.request(method, path, body)
    answer = connection.getresponse()
    return answer.status, answer.read()
