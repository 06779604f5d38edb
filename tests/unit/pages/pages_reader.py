"""Pages read through HTTP, as a browser without scripts does, and taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser

import httpx
from starlette.types import ASGIApp


class Browser:
    """Reads an application's pages."""

    def __init__(self, app: ASGIApp) -> None:
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://syncd")

    async def get(self, path: str, status: int = 200) -> Page:
        answer = await self.answer(path)
        assert answer.status_code == status, f"{path}: {answer.status_code}\n{answer.text}"
        return Page(path, answer)

    async def pages(self, path: str) -> list[Page]:
        """Return a page and all that follow it, from one to the next."""
        found = [await self.get(path)]
        while following := found[-1].all("a", rel="next"):
            assert len(found) < 100, "the pages do not come to an end"
            found.append(await self.get(following[0]["href"]))
        return found

    async def answer(self, path: str, method: str = "GET") -> httpx.Response:
        return await self._client.request(method, path)

    async def aclose(self) -> None:
        await self._client.aclose()


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    text: str = ""

    def __getitem__(self, name: str) -> str:
        return self.attributes[name]

    def get(self, name: str) -> str | None:
        return self.attributes.get(name)


_VOID = {"wbr", "meta", "link", "input"}
_BLOCKS = {"p", "li", "dt", "dd", "h1", "h2", "h3", "th", "td", "caption", "div"}


class Page(HTMLParser):
    """A page taken apart: its elements, each with all the text within it."""

    def __init__(self, path: str, answer: httpx.Response) -> None:
        super().__init__(convert_charrefs=True)
        self.path, self.answer = path, answer
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(answer.text)
        self.close()
        assert not self._open, f"{path}: not closed: {[one.tag for one in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{self.path}: an attribute twice in {tag} {attrs}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if tag in _BLOCKS:
            self.handle_data(" ")
        if tag not in _VOID:
            assert self._open, f"{self.path}: </{tag}> closes nothing"
            element = self._open.pop()
            assert element.tag == tag, f"{self.path}: </{tag}> closes <{element.tag} {element.attributes}>"

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Elements of a tag whose attributes hold these words; `class_` and `data_x` stand for class and data-x."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [
            one
            for one in self.elements
            if one.tag == tag and all(value in (one.get(name) or "").split() for name, value in wanted.items())
        ]

    def one(self, tag: str, **attributes: str) -> Element:
        found = self.all(tag, **attributes)
        assert len(found) == 1, f"{self.path}: {len(found)} of {tag} {attributes}"
        return found[0]

    def by_id(self, name: str) -> Element:
        (found,) = [one for one in self.elements if one.get("id") == name]
        return found

    def has(self, name: str) -> bool:
        return any(one.get("id") == name for one in self.elements)

    def text_of(self, name: str) -> str:
        return words(self.by_id(name).text)

    @property
    def title(self) -> str:
        return self.all("title")[0].text

    @property
    def text(self) -> str:
        return words(self.one("body").text)

    @property
    def commands(self) -> list[str]:
        return [one.text for one in self.all("code") if one.text.startswith("syncd ")]

    def rows(self, caption: str) -> list[list[str]]:
        """The cells of the table whose caption holds these words, a row each, the head first."""
        tables: list[list[list[str]]] = []
        captions: list[str] = []
        for one in self.elements:
            if one.tag == "table":
                tables.append([])
                captions.append("")
            elif one.tag == "caption":
                captions[-1] = one.text
            elif one.tag == "tr":
                tables[-1].append([])
            elif one.tag in {"td", "th"}:
                tables[-1][-1].append(words(one.text))
        (found,) = [rows for rows, said in zip(tables, captions, strict=True) if caption in said]
        return found


def words(text: str) -> str:
    """The text with its white space as a reader sees it."""
    return " ".join(text.split())
