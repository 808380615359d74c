"""A form for the settings of a method, made from its settings dataclass, and the text that the form writes.

The fields are plain HTML; the page's script writes what differs from the defaults as "NAME=VALUE, NAME=VALUE" into the
text field that the server reads. The API takes the same text.
"""

from __future__ import annotations

from html import escape

from countgen import methods
from countgen.app.demo.html import hint
from countgen.app.demo.limits import Limits
from countgen.methods.settings import Description, describe

HIDDEN = "settings"
"""Element id of the text field."""


def settings_form(limits: Limits, method: str, text: str = "") -> str:
    """Return the fields of a method's settings with meaning, range and default.

    Args:
        limits: that the text is checked against.
        method: name of the method.
        text: changed settings that the fields show.

    Raises:
        RefusedError, ValueError: as `Limits.check_settings`.
    """
    found = methods.load(method)
    defaults = list(describe(found.settings_class()))
    values = describe(limits.check_settings(found.settings_class(), text))
    rows = [_row(one, value.default) for one, value in zip(defaults, values, strict=True)]
    if not rows:
        return hint(f"{found.summary} It has no settings.")
    return hint(found.summary) + f"<div class='settings' data-for='{HIDDEN}'>{''.join(rows)}</div>"


def _row(default: Description, value: object) -> str:
    name, differs = escape(default.name, quote=True), value != default.default
    if default.choices:
        options = "".join(
            f"<option{' selected' if choice == value else ''}>{escape(choice)}</option>" for choice in default.choices
        )
        field = f"<select data-name='{name}' data-default='{default.default}'>{options}</select>"
    else:
        step = "1" if isinstance(default.default, int) else "any"
        field = (
            f"<input type='number' step='{step}' data-name='{name}' data-default='{default.default}' "
            f"placeholder='{default.default}' value='{value if differs else ''}'>"
        )
    return (
        f"<label><b>{escape(default.name.rpartition('.')[2].replace('_', ' '))}</b>{field}"
        f"<span>{escape(default.meaning)}; {escape(default.accepted)}; default {default.default}</span></label>"
    )
