"""Templates filled in; everything in them is escaped, and a name that is missing is an error."""

from __future__ import annotations

from typing import Any

import jinja2

from certiprune.report import words


def fill(template: str, **values: Any) -> str:
    """The template of that name with ``values``."""
    loader = jinja2.PackageLoader("certiprune.report", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "percent": words.percent,
        "p_value": words.p_value,
        "eps": words.eps_text,
        "number": words.number,
        "points": words.points,
        "margin": words.margin_text,
        "seconds": words.seconds_text,
    }
    return environment.get_template(template).render(**values)
