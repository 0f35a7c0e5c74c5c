"""The page of a report, parsed, and what holds for every one."""

from html.parser import HTMLParser
from urllib.parse import unquote


class Page(HTMLParser):
    """What tests look at of a page: elements in order as (tag, attributes, ids of the elements around), and text."""

    EMPTY = {"meta", "img", "br", "link"}

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.scripts, self._open = [], "", {}, []
        self.feed(text)
        self.close()
        assert not self._open, "every element is closed"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes, [open_attributes.get("id") for _, open_attributes in self._open]))
        if tag not in self.EMPTY:
            self._open.append((tag, attributes))

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        tag, attributes = self._open[-1] if self._open else ("", {})
        if tag == "script":
            self.scripts[attributes.get("id")] = data
        elif tag != "style":
            self.text += data

    def find(self, *tags, **expected):
        return [each for tag, each, _ in self.elements if tag in tags and expected.items() <= each.items()]

    def inside(self, name, *tags):
        return [(tag, each) for tag, each, around in self.elements if name in around and tag in tags]


def check_page(page, folder):
    """Checks what holds for every report: its links, which need no network, its ids, figures and tables."""
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for each in page.find("a", "img", "script", "link", "iframe", "source"):
        for url in (each.get("src"), each.get("href")):
            if url is None or url.startswith("data:"):
                continue
            assert url[1:] in ids if url.startswith("#") else (folder / unquote(url)).is_file(), url
    contents = [each["href"][1:] for _, each in page.inside("contents", "a")]
    assert contents == [each["id"] for each in page.find("header", "details")]
    names = [each["id"] for each in page.find("figure") if "id" in each]
    for name in names:
        assert [tag for tag, _ in page.inside(name, "figcaption")] == ["figcaption"]
    assert len(page.find("table")) == len([name for name in names if name.startswith("table-")])
    for name in (name for name in names if name.startswith("table-")):
        assert [each["href"] for _, each in page.inside(name, "a")] == [f"{name.removeprefix('table-')}.csv"]
        headers = [each for _, each in page.inside(name, "th")]
        assert headers and {each["scope"] for each in headers} == {"col", "row"}
        sortable = [each for each in headers if each["scope"] == "col"]
        assert {each["aria-sort"] for each in sortable} == {"none"}
        assert len(page.inside(name, "button")) == len(sortable)
