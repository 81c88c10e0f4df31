"""A browser without scripts: what is on a page, and what pressing one of its buttons sends."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "input", "img", "br", "hr"}


@dataclass
class Form:
    """One form of a page: where it goes, what it holds, and what can be pressed in it."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[dict[str, str]] = field(default_factory=list)


class Seen(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.forms, self.words, self.inside = [], [], [], []
        self.unlabelled = []
        self.feed(html)
        labels = {a.get("for") for t, a in self.elements if t == "label"}
        self.unlabelled = [a for a in self.unlabelled if a.get("id") not in labels]

    def handle_starttag(self, tag, attrs):
        attrs = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attrs))
        if tag == "form":
            self.forms.append(Form(attrs["action"].partition("#")[0], attrs["method"]))
        elif tag in ("input", "textarea", "select"):
            self.forms[-1].fields[attrs["name"]] = attrs.get("value", "")
            if attrs.get("type") != "hidden" and "label" not in self.inside:
                self.unlabelled.append(attrs)
        elif tag == "button":
            self.forms[-1].buttons.append(attrs)
        if tag not in VOID:
            self.inside.append(tag)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if self.inside[-1:] != ["textarea"]:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def form(self, action):
        return next(f for f in self.forms if f.action == action)


def see(client, path, **more):
    response = client.get(path, **more)
    assert response.status_code == 200, response.text
    return Seen(response.text)


def press(client, form, button=None, **filled):
    """Send the form as a browser does, with this button of it and these fields filled in."""
    verdict = {"verdict": button} if button else {}
    return client.post(form.action, data=form.fields | filled | verdict, follow_redirects=False)


def asked(client, text, **more):
    """The page that answers a question typed into the box."""
    response = press(client, see(client, "/").form("/diagnose"), text=text, **more)
    if response.status_code == 303:
        return see(client, response.headers["location"])
    assert response.status_code == 200, response.text
    return Seen(response.text)


def put(client, *incidents, **headers):
    return client.post("/v1/incidents", json=list(incidents), headers=headers).json()["ids"]


def harmful(page):
    """Everything on this page that a browser would run, load from elsewhere or send elsewhere."""
    found = []
    for tag, attrs in page.elements:
        addresses = [attrs[a] for a in ("src", "action", "formaction", "srcdoc") if a in attrs]
        addresses += [attrs["href"]] if tag in ("link", "base") and "href" in attrs else []
        found += [(tag, a) for a in attrs if a.startswith("on") or a == "style"]
        found += [(tag, a) for a in addresses if not a.startswith("/") or a.startswith("//")]
        if tag == "a" and not re.match(r"/(?!/)|#|https?://", attrs["href"]):
            found.append((tag, attrs["href"]))
        if tag in ("style", "iframe", "svg", "object", "embed", "base"):
            found.append((tag, ""))
        if tag == "script" and "src" not in attrs:
            found.append((tag, "inline"))
    return found
