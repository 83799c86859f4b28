"""What a page points at is there: files, headings, pictures, targets of make."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT, anchors, blocks, links, pages, spans

MAKE = re.compile(r"(?:^|[;&|] *)make (?:[A-Z]+=\S+ )*([a-z][a-z-]*)", re.MULTILINE)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
LINKS = sorted({(page, target) for page in pages() for _, target in links(page) if not re.match(r"[a-z]+:", target)})


@pytest.mark.parametrize(("page", "target"), LINKS, ids=lambda value: str(value).removeprefix(f"{ROOT}/"))
def test_a_link_leads_to_a_file_or_heading_that_is_there(page, target):
    path, _, anchor = target.partition("#")
    place = (page.parent / path).resolve() if path else page
    assert place.is_relative_to(ROOT), "leads out of the repository"
    assert place.exists(), f"no {place.relative_to(ROOT)}"
    if anchor:
        assert anchor in anchors(place), f"{place.relative_to(ROOT)} has no heading for #{anchor}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_target_of_make_that_is_named_exists(page):
    for code in (*blocks(page), *spans(page)):
        unknown = set(MAKE.findall(code.text)) - TARGETS
        assert not unknown, f"{code}: no target {sorted(unknown)}"


def test_each_guide_is_reached_from_the_readme():
    reached, unread = set(), [ROOT / "README.md"]
    while unread:
        page = unread.pop()
        if page in reached:
            continue
        reached.add(page)
        found = ((page.parent / target.partition("#")[0]).resolve() for _, target in links(page))
        unread += [path for path in found if path.suffix == ".md" and path.exists()]
    assert set(pages()) - reached == set()
