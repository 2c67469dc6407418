"""What a page of HTML holds: its elements, its text, and the JSON within it."""

import html.parser
import json


class Page(html.parser.HTMLParser):
    """A page that was read: `tags` are pairs of a name and attributes, `text` is all that is not script or style."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.parts, self.inside, self.scripts = [], [], [], {}
        self.feed(text)
        self.text = " ".join(" ".join(self.parts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside.append(dict(attrs).get("id"))

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.parts.append(data)
        elif self.inside[-1]:
            self.scripts[self.inside[-1]] = self.scripts.get(self.inside[-1], "") + data

    def of(self, *tags):
        return [attrs for tag, attrs in self.tags if tag in tags]

    @property
    def scores(self):
        return json.loads(self.scripts["scores"])

    @property
    def drawn(self):
        return json.loads(self.scripts["drawn"])


def read(path):
    return Page(path.read_text(encoding="utf-8"))
