"""Templates to C text; what is printed is decided elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import jinja2

from qgen.asm.cores import Core
from qgen.asm.schedule import scheduled
from qgen.ctext import tidy
from qgen.targets.spec import Helper


@cache
def environment() -> jinja2.Environment:
    """Templates that read as C: ``${ }`` for values, ``//%`` for directives."""
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("qgen", "templates"),
        variable_start_string="${",
        variable_end_string="}",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        line_statement_prefix="//%",
        line_comment_prefix="//#",
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,
    )
    env.filters["minus"] = _minus
    env.filters["plus"] = lambda value: _minus(-value)
    return env


def _minus(value: int) -> str:
    """`` - 3``, `` + 3`` or nothing: subtraction of a constant as a person writes it."""
    return f" - {value}" if value > 0 else f" + {-value}" if value < 0 else ""


def render(template: str, values: Mapping[str, Any]) -> str:
    """Text of a template, as it stands there."""
    return environment().get_template(template).render(values)


def code(
    template: str,
    values: Mapping[str, Any],
    core: Core | None,
    *,
    tuned: bool,
    compact: bool = False,
) -> str:
    """C text of a template, its assembly in the order of the core; flags as in `scheduled`."""
    text = tidy(render(template, values))
    return scheduled(text, core, tuned=tuned, compact=compact) if core else text


def helper_code(helper: Helper, prefix: str, core: Core | None, *, tuned: bool) -> str:
    """The function or type that `helper` is, in a file of names that begin with `prefix`."""
    values = {"p": prefix, "P": prefix.upper(), **helper.vars, "helper": helper}
    return code(helper.template, values, core, tuned=tuned, compact=helper.compact)
