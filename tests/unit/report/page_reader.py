"""A strict reader of HTML for tests: what is there, and whether each element is closed as it was opened."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = {"meta", "link", "img", "br", "hr", "input"}


class PageReader(HTMLParser):
    """Collects the tags with their attributes, ids, addresses that a browser would load, and tables' texts.

    Raises:
        AssertionError: an element is closed that is not the innermost open one.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._open: list[str] = []
        self._table: list[list[str]] | None = None
        self.feed(text)
        self.close()
        assert self._open == [], f"never closed: {self._open}"

    @property
    def loads(self) -> list[str]:
        """The values of all attributes that can make a browser ask for something."""
        names = ("src", "href", "xlink:href", "srcset", "data", "action", "poster")
        return [value for _, given in self.tags for name in names if (value := given.get(name))]

    @property
    def scripts(self) -> list[dict[str, str | None]]:
        """The attributes of every script; the one that sorts tables has none."""
        return [given for tag, given in self.tags if tag == "script"]

    @property
    def ids(self) -> list[str]:
        return [value for _, given in self.tags if (value := given.get("id"))]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "table":
            self._table = self.tables.setdefault(f"{given.get('class')} {len(self.tables)}", [])
        if tag == "tr" and self._table is not None:
            self._table.append([])
        if tag in ("td", "th") and self._table is not None:
            self._table[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()
        if tag == "table":
            self._table = None

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("style", "script"):
            return
        self.text += data
        if self._table is not None and {"td", "th"} & set(self._open):
            cell = self._table[-1]
            cell[-1] = f"{cell[-1]} {data}".replace("\u00a0", " ").replace("\u00ad", "").strip()
