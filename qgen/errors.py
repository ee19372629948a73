"""The one error a user sees: where, what, and what to do.

Everything qgen refuses is a `QgenError`. It prints as one line,
``model.qg:14:9: unknown op 'conv3d' (did you mean conv2d?)``; for text models the source line and a
caret follow. The command line turns it into exit code 2; a traceback is always a bug of qgen.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Loc:
    """A place in a model file.

    `line` and `column` are 1-based and 0 where the format has no lines; binary formats name the
    place in `item` instead (``op 12 CONV_2D``).
    """

    file: str = ""
    line: int = 0
    column: int = 0
    item: str = ""

    def __str__(self) -> str:
        parts = [self.file or "<model>"]
        if self.line:
            parts += [str(self.line), str(self.column)]
        elif self.item:
            parts.append(f" {self.item}")
        return ":".join(parts)


NOWHERE = Loc()


class QgenError(Exception):
    """Bad input, a missing tool or a broken budget, said in one line.

    Args:
        message: what is wrong, in words of the user's model.
        loc: where; omitted when there is no place to point at.
        hint: what to do about it.
        source: the text of the line at `loc`, for the caret.
    """

    def __init__(
        self, message: str, loc: Loc | None = None, *, hint: str = "", source: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.loc = loc
        self.hint = hint
        self.source = source

    def __str__(self) -> str:
        line = f"{self.loc}: {self.message}" if self.loc else self.message
        return f"{line} ({self.hint})" if self.hint else line

    def caret(self) -> str:
        """The offending source line with a caret below the column, or an empty string."""
        if not self.source or not self.loc or not self.loc.column:
            return ""
        pad = "".join("\t" if c == "\t" else " " for c in self.source[: self.loc.column - 1])
        return f"  {self.source}\n  {pad}^"
