"""The result of a verification, for people and for machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Difference:
    """The first place where the generated code is not golden's equal.

    Attributes:
        problem: ``value``; ``fault`` if the code crashed or wrote where it must not; ``oracle`` if
            golden itself differs from LiteRT.
        input: number of the model input, -1 for an op that was run alone.
        kind: what the input was: random, all minimum, ramp ...
        index: index of the op, -1 for a model output.
        name: of the op (its result), or of the output.
        op: kind of op, ``output`` for a model output.
        location: in the model file.
        element: index in the result.
        expected: golden's value, in the model's own type.
        got: the value of the generated code.
        accumulator: golden's accumulator of that element, with bias, where the op has one.
        count: how many elements of the tensor differ.
        message: what happened, for a fault.
    """

    problem: str
    input: int
    kind: str
    index: int
    name: str
    op: str
    location: str
    element: tuple[int, ...] | None = None
    expected: int | None = None
    got: int | None = None
    accumulator: int | None = None
    count: int | None = None
    message: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return vars(self) | {"element": list(self.element) if self.element else None}

    def __str__(self) -> str:
        where = f"{self.op} '{self.name}'" + (f" (op {self.index})" if self.index >= 0 else "")
        run = f"input {self.input} ({self.kind})" if self.input >= 0 else f"alone, {self.kind}"
        place = f"{self.location}: " if self.location else ""
        if self.problem == "fault":
            return f"{place}{where}, {run}: {self.message}"
        who = "golden" if self.problem == "value" else "LiteRT"
        text = f"{place}{where}, {run}: element {list(self.element or ())} is {self.got}"
        text += f", {who} says {self.expected}"
        if self.accumulator is not None:
            text += f" (accumulator {self.accumulator})"
        return text + (f"; {self.count} elements differ" if self.count else "")


@dataclass(frozen=True)
class Verdict:
    """Whether the generated C computes what golden computes.

    Attributes:
        equal: every compared tensor is equal bit for bit.
        model, target: names.
        inputs: model inputs that were run.
        tensors: results that were compared: every op and output of every input, and ops alone.
        op_runs: how many times a single op was run on adversarial, extreme or random operands.
        first_difference: None if equal.
        oracle: name of the foreign oracle that golden was compared with, or empty.
        cpu: the core that the code was arranged for, if one was chosen.
        seconds: wall-clock time.
    """

    equal: bool
    model: str
    target: str
    inputs: int
    tensors: int
    op_runs: int
    first_difference: Difference | None = None
    oracle: str = ""
    cpu: str | None = None
    seconds: float = 0.0

    def __bool__(self) -> bool:
        return self.equal

    def __str__(self) -> str:
        machine = f"target {self.target}" + (f" on {self.cpu}" if self.cpu else "")
        if self.first_difference is not None:
            return f"{self.model}: {machine} DIFFERS: {self.first_difference}"
        oracle = f", golden equals {self.oracle}" if self.oracle else ""
        return (
            f"{self.model}: {machine} equals golden bit for bit "
            f"({self.inputs} inputs, {self.op_runs} single ops, {self.tensors} tensors{oracle})"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = self.first_difference
        return vars(self) | {"first_difference": found.as_dict() if found else None}
