"""The page as HTML: templates filled with values, all of them escaped.

Nothing on the page executes or is fetched: its policy allows the one style sheet, by its hash, and pictures
that are part of the page.
"""

import base64
import functools
import hashlib
import os
from typing import Any

import jinja2
from markupsafe import Markup

from blockdiff.page.values import Body
from blockdiff.printable import name

_FOLDER = os.path.dirname(__file__)


@functools.cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    made.filters["shown"] = name
    return made


def body(values: Body) -> str:
    """Return the HTML of a set's section below its heading."""
    return _environment().get_template("body.html").render(set=values)


def page(bodies: dict[int, str], **values: Any) -> str:
    """Return the whole page; `bodies` has what `body` made, by the number of the set."""
    with open(os.path.join(_FOLDER, "style.css"), encoding="utf-8") as file:
        style = "".join(line.strip() for line in file)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    safe = {number: Markup(text) for number, text in bodies.items()}
    style_text = Markup(style)
    return _environment().get_template("page.html").render(
        bodies=safe, style=style_text, policy=policy, **values
    )  # fmt: skip
