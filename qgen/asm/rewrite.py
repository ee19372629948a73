"""Other instructions for the same loads: steps of a pointer joined or taken out, pairs split."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from qgen.asm.isa import Instruction, operand, operand_registers, parse, split_operands

# Bytes of one register by the letter of its name.
_BYTES = {"b": 1, "h": 2, "s": 4, "d": 8, "q": 16, "w": 4, "x": 8}
_ACCESS = re.compile(r"(\w+) (.*?), \[(%\w?\[\w+\]|\w+)")
_POINTER = r"%\w?\[\w+\]|\w+"
_LIST = re.compile(
    rf"ld1 \{{v(\d+)\.16b-v(\d+)\.16b\}}, \[(?:{_POINTER})\](?:, (?:#(\d+)|({_POINTER})))?"
)
_PLAIN = ("ldr", "ldp", "str", "stp")
_LARGEST_ADD = 4095


def join_steps(body: Sequence[Instruction]) -> list[Instruction]:
    """A pointer that several accesses step on: the first takes all the steps.

    The others reach back with negative offsets. As many instructions as before, but the loads no
    longer wait for each other.
    """
    return _with_steps(body, _joined, fewest=2)


def take_steps_out(body: Sequence[Instruction]) -> list[Instruction]:
    """Steps as additions of their own at the end of the block: one more instruction per pointer."""
    return _with_steps(body, _taken_out, fewest=1)


def split_pairs(body: Sequence[Instruction]) -> list[Instruction]:
    """LDP of q registers as two LDR."""
    found: list[Instruction] = []
    for i in body:
        a = i.address
        if i.key != "ldp q q []" or a is None or not _reaches("ldr", 16, a.offset + 16):
            found.append(i)
            continue
        first, second = split_operands(_operands(i)[1])
        base = _base_text(i)
        halves = ((first, a.offset), (second, a.offset + 16))
        # The pointer may not be among what is loaded: these are vector registers.
        found += [parse(f"ldr {r}, {_address(base, at)}") for r, at in halves]
    return found


def lists_as_pairs(body: Sequence[Instruction]) -> list[Instruction]:
    """LD1 of two or four whole registers as LDP, one or two of them, stepping as it did.

    A step by a register takes an addition of its own.
    """
    found: list[Instruction] = []
    for i in body:
        names, step = _list(i)
        if len(names) not in (2, 4):
            found.append(i)
            continue
        base = _base_text(i)
        for n in range(0, len(names), 2):
            tail = f"[{base}], #32" if step == "#" else f"[{base}, #{16 * n}]"
            found.append(parse(f"ldp q{names[n]}, q{names[n + 1]}, {tail}"))
        if step not in ("", "#"):
            found.append(parse(f"add {base}, {base}, {step}"))
    return found


def one_by_one(body: Sequence[Instruction]) -> list[Instruction]:
    """Loads of several q registers that step over what they load, as LDR that step by 16."""
    found: list[Instruction] = []
    for i in body:
        registers = _loaded_in_turn(i)
        found += [parse(f"ldr q{n}, [{_base_text(i)}], #16") for n in registers] or [i]
    return found


def walk(body: Sequence[Instruction]) -> list[Instruction]:
    """LDR that step by 16, two at a time: LD1 at the pointer, LDR behind it, one addition.

    In-order cores may start LD1, whose result comes later, beside a product, and an addition beside
    LDR.
    """
    turns: dict[str, list[int]] = {}
    for n, i in enumerate(body):
        for register in i.reads | i.writes:
            turns.setdefault(register, []).append(n)
    found = {n: [i] for n, i in enumerate(body)}
    for base in {i.address.base for i in body if i.key == "ldr q []#" and i.address}:
        users = turns[base]
        if len(users) % 2 or any(
            body[n].key != "ldr q []#" or _step(body[n]) != 16 or base not in body[n].writes
            for n in users
        ):
            continue
        for first, second in zip(users[::2], users[1::2], strict=True):
            name = _base_text(body[first])
            here, there = (_operands(body[n])[1] for n in (first, second))
            found[first] = [parse(f"ld1 {{v{here[1:]}.16b}}, [{name}]")]
            found[second] = [
                parse(f"ldr {there}, [{name}, #16]"),
                parse(f"add {name}, {name}, #32"),
            ]
    return [i for n in range(len(body)) for i in found[n]]


def _loaded_in_turn(i: Instruction) -> list[int]:
    """Numbers of the q registers that a load fills, if it steps over all of them and no more."""
    mnemonic, *kinds = i.key.replace("{", "").replace("}", "").split()
    whole = {"ldp": {"q"}, "ld1": {"16b", "8h", "4s", "2d"}}.get(mnemonic, set())
    if kinds[-1:] != ["[]#"] or not set(kinds[:-1]) <= whole or "%" in i.text.partition(", [")[0]:
        return []
    registers = operand_registers(i.text)
    step = i.address.step if i.address else None
    return [int(r[1:]) for r in registers] if step == 16 * len(registers) else []


def as_lists(body: Sequence[Instruction]) -> list[Instruction]:
    """LDR and LDP of q registers at the pointer itself as LD1, which some cores start sooner."""
    found: list[Instruction] = []
    for i in body:
        a = i.address
        if i.key not in ("ldr q []", "ldp q q []") or a is None or a.offset:
            found.append(i)
            continue
        names = [int(o[1:]) for o in split_operands(_operands(i)[1])]
        follow = all(b == (a + 1) % 32 for a, b in pairwise(names))
        registers = ", ".join(f"v{n}.16b" for n in names)
        found.append(parse(f"ld1 {{{registers}}}, [{_base_text(i)}]") if follow else i)
    return found


Plan = Callable[[Sequence[Instruction], list[int]], dict[int, Instruction] | None]


def _with_steps(body: Sequence[Instruction], plan: Plan, fewest: int) -> list[Instruction]:
    """`body` with the accesses of each pointer as `plan` has them; -1 is for the end."""
    found: dict[int, Instruction] = {}
    added: list[Instruction] = []
    for base in dict.fromkeys(i.address.base for i in body if i.address and i.address.step != 0):
        users = [n for n, i in enumerate(body) if base in i.reads | i.writes]
        if not all(_simple(body[n], base) for n in users):
            continue
        if sum(_step(body[n]) != 0 for n in users) < fewest:
            continue
        changed = plan(body, users)
        if changed is not None:
            added += [changed.pop(-1)] if -1 in changed else []
            found |= changed
    return [found.get(n, i) for n, i in enumerate(body)] + added


def _simple(i: Instruction, base: str) -> bool:
    """An access with a constant offset and step, of which `base` is nothing but the address."""
    a = i.address
    return (
        a is not None
        and a.base == base
        and a.step is not None
        and not a.pre
        and not a.index
        and not any(base in operand(i.text, o).registers for o in split_operands(_operands(i)[1]))
    )


def _list(i: Instruction) -> tuple[list[int], str]:
    """Registers of an LD1 of whole ones, or none; and its step: ``#`` behind them, a register."""
    found = _LIST.fullmatch(i.text)
    if found is None:
        return [], ""
    names = list(range(int(found[1]), int(found[2]) + 1))
    fits = found[3] in (None, str(16 * len(names)))
    return names if fits else [], "#" if found[3] else found[4] or ""


def _operands(i: Instruction) -> tuple[str, str]:
    found = _ACCESS.match(i.text)
    assert found, i.text
    return found[1], found[2]


def _base_text(i: Instruction) -> str:
    found = _ACCESS.match(i.text)
    assert found, i.text
    return found[3]


def _step(i: Instruction) -> int:
    assert i.address is not None
    return i.address.step or 0


def _joined(body: Sequence[Instruction], users: list[int]) -> dict[int, Instruction] | None:
    first = users[0]
    total = sum(_step(body[n]) for n in users)
    if _offset(body[first]) != 0 or _step(body[first]) == 0:
        return None
    changed: dict[int, Instruction | None] = {first: _access(body[first], 0, total)}
    at = _step(body[first])
    for n in users[1:]:
        changed[n] = _access(body[n], at + _offset(body[n]) - total, 0)
        at += _step(body[n])
    return _all_or_none(changed)


def _taken_out(body: Sequence[Instruction], users: list[int]) -> dict[int, Instruction] | None:
    changed: dict[int, Instruction | None] = {}
    at = 0
    for n in users:
        changed[n] = _access(body[n], at + _offset(body[n]), 0)
        at += _step(body[n])
    if not 0 < at <= _LARGEST_ADD:
        return None
    base = _base_text(body[users[0]])
    changed[-1] = parse(f"add {base}, {base}, #{at}")
    return _all_or_none(changed)


def _all_or_none(changed: dict[int, Instruction | None]) -> dict[int, Instruction] | None:
    whole = {n: i for n, i in changed.items() if i is not None}
    return whole if len(whole) == len(changed) else None


def _offset(i: Instruction) -> int:
    assert i.address is not None
    return i.address.offset


def _access(i: Instruction, offset: int, step: int) -> Instruction | None:
    """`i` at another offset of its pointer, with another step; None if it cannot be written."""
    mnemonic, operands = _operands(i)
    base = _base_text(i)
    if offset and step:
        return None
    if mnemonic not in _PLAIN:
        # LD1 and the like have no offsets, and step by what they load.
        same = i.address == replace(i.address, offset=offset, step=step) if i.address else False
        bare = offset == 0 and step == 0
        return i if same else parse(f"{mnemonic} {operands}, [{base}]") if bare else None
    size = _BYTES[operands.lstrip("%").replace("[", "x")[0]]
    if not _reaches(mnemonic, size, offset) or not _steps(mnemonic, size, step):
        return None
    after = f", #{step}" if step else ""
    return parse(f"{mnemonic} {operands}, {_address(base, offset)}{after}")


def _address(base: str, offset: int) -> str:
    return f"[{base}, #{offset}]" if offset else f"[{base}]"


def _reaches(mnemonic: str, size: int, offset: int) -> bool:
    """Offsets that fit the instruction, or the form of it without scaling."""
    if mnemonic.endswith("p"):
        return offset % size == 0 and -64 <= offset // size <= 63
    return -256 <= offset <= 255 or (offset % size == 0 and 0 <= offset // size <= 4095)


def _steps(mnemonic: str, size: int, step: int) -> bool:
    if mnemonic.endswith("p"):
        return step % size == 0 and -64 <= step // size <= 63
    return -256 <= step <= 255
