"""What AArch64 instructions read and write.

Kernels are written in the order in which one reads them; before they are put into another, every
line is parsed into an `Instruction`. A mnemonic that is not in the tables below is an error: its
effects are never guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from qgen.errors import QgenError

FLAGS = "flags"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Results that depend on the operands alone; the first operand is written.
COMPUTE = _words(
    """
    abs add addhn addp addv and asr bic cls clz cmeq cmge cmgt cmhi cmhs cmle cmlt cmtst cnt
    csel dup eor ext fmov lsl lsr madd mov movi movn movz msub mul mvn mvni neg not orn orr
    pmul raddhn rbit rev16 rev32 rev64 rshrn sabd sabdl sabdl2 saddl saddl2 saddlp saddlv
    saddw saddw2 sbfx shadd shl shll shll2 shrn shsub smax smaxp smaxv smin sminp sminv smov
    smull smull2 sqabs sqadd sqdmulh sqdmull sqdmull2 sqneg sqrdmulh sqrshl sqrshrn sqrshrun
    sqshl sqshlu sqshrn sqshrun sqsub sqxtn sqxtun srhadd srshl srshr sshl sshll sshll2 sshr
    ssubl ssubl2 ssubw ssubw2 sub subhn sxtl sxtl2 sxtw tbl trn1 trn2 uabd uabdl uabdl2
    uaddl uaddl2 uaddlp uaddlv uaddw uaddw2 ubfx uhadd umax umaxp umaxv umin uminp uminv
    umov umull umull2 uqadd uqrshl uqrshrn uqshl uqshrn uqsub uqxtn urhadd urshl urshr ushl
    ushll ushll2 ushr usubl usubl2 usubw usubw2 uxtl uxtl2 uxtw uzp1 uzp2 xtn zip1 zip2
    """
)

# The first operand is read too: an accumulator, or a register of which a part is kept.
UPDATE = _words(
    """
    addhn2 bif bit bsl ins mla mls movk raddhn2 rshrn2 saba sabal sabal2 sadalp sdot shrn2
    sli smlal smlal2 smlsl smlsl2 smmla sqdmlal sqdmlal2 sqdmlsl sqdmlsl2 sqrdmlah sqrdmlsh
    sqrshrn2 sqrshrun2 sqshrn2 sqshrun2 sqxtn2 sqxtun2 sri srsra ssra subhn2 sudot suqadd
    tbx uaba uabal uabal2 uadalp udot umlal umlal2 umlsl umlsl2 ummla uqrshrn2 uqshrn2
    uqxtn2 ursra usdot usmmla usqadd usra xtn2
    """
)

# As COMPUTE, and the flags are written.
WITH_FLAGS = _words("adds ands bics negs subs")
COMPARE = _words("ccmn ccmp cmn cmp tst")
READS_FLAGS = _words("ccmn ccmp cinc csel cset csetm csinc csneg")
LOADS = _words("ld1 ld2 ld3 ld4 ldp ldpsw ldr ldrb ldrh ldrsb ldrsh ldrsw ldur")
REPLICATE = _words("ld1r ld2r ld3r ld4r")
STORES = _words("st1 st2 st3 st4 stp str strb strh stur")
PREFETCH = _words("prfm")
BRANCHES = _words("b cbnz cbz tbnz tbz")

_VECTOR = re.compile(r"([vqdshb])(\d+)(?:\.(\d*[bhsdq])(\[\d+\])?)?$")
_NAMED = re.compile(r"%([wxqdshb]?)\[(\w+)\](?:\.(\d*[bhsdq])(\[\d+\])?)?$")
_SCALAR = re.compile(r"([wx])(\d+|zr)$|sp$")
_IMMEDIATE = re.compile(r"#?-?(0x[0-9a-f]+|\d+)$")
_EXTEND = re.compile(r"(lsl|lsr|asr|msl|sxtw|uxtw)( #\d+)?$")
_CONDITIONS = _words("eq ne hs lo mi pl vs vc hi ls ge lt gt le cs cc al")
_PAIRS = (("eq", "ne"), ("hs", "lo"), ("mi", "pl"), ("hi", "ls"), ("ge", "lt"), ("gt", "le"))
_INVERSE = dict(_PAIRS) | {b: a for a, b in _PAIRS}
_LIST = re.compile(r"\{(.*)\}(\[\d+\])?$")


@dataclass(frozen=True)
class Operand:
    """One operand: a register, a list of them, or none.

    Attributes:
        registers: names, ``v12`` for every width of a vector register, ``%left`` for an operand of
            the asm statement.
        kind: how it looks without the numbers: ``8h``, ``s[]``, ``q``, ``x``, ``#``, ``[]``.
        lane: a single element of the register.
    """

    registers: tuple[str, ...]
    kind: str
    lane: bool = False


@dataclass(frozen=True)
class Address:
    """``[base]``, ``[base, #offset]``, ``[base, index]``, and the change of the base if any.

    Attributes:
        base: register.
        offset: in bytes; 0 with an index.
        index: text of a register offset, or empty.
        step: bytes by which the base changes, None for an amount in a register.
        pre: it changes before the access.
    """

    base: str
    offset: int = 0
    index: str = ""
    step: int | None = 0
    pre: bool = False


@dataclass(frozen=True)
class Instruction:
    """One line of assembly.

    Attributes:
        text: as it is printed.
        mnemonic: lower case.
        reads, writes: registers, and `FLAGS`.
        key: mnemonic and kinds of operands, by which its timing is found.
        address: of loads and stores.
        load, store: it reads or writes memory.
        label: where a branch goes.
    """

    text: str
    mnemonic: str
    reads: frozenset[str]
    writes: frozenset[str]
    key: str
    address: Address | None = None
    load: bool = False
    store: bool = False
    label: str = ""

    @property
    def branch(self) -> bool:
        return bool(self.label)


@cache
def parse(text: str) -> Instruction:
    """An instruction from its text. Raises QgenError for what is not in the tables."""
    mnemonic, _, rest = text.strip().partition(" ")
    parts = split_operands(rest)
    if mnemonic.split(".")[0] in BRANCHES:
        return _branch(text, mnemonic, parts)
    if mnemonic in LOADS | REPLICATE | STORES | PREFETCH:
        return _memory(text, mnemonic, parts)
    if mnemonic not in COMPUTE | UPDATE | WITH_FLAGS | COMPARE | READS_FLAGS:
        raise QgenError(f"unknown instruction '{text}'", hint="add it to qgen/asm/isa.py")
    operands = [operand(text, p) for p in parts]
    target, sources = operands[0], operands[1:]
    reads = {r for o in sources for r in o.registers}
    writes = set(target.registers)
    if mnemonic in COMPARE:
        reads |= writes
        writes = {FLAGS}
    elif mnemonic in UPDATE or target.lane:
        reads |= writes
    if mnemonic in WITH_FLAGS:
        writes.add(FLAGS)
    if mnemonic in READS_FLAGS:
        reads.add(FLAGS)
    key = " ".join([mnemonic, *(o.kind for o in operands)])
    return Instruction(text, mnemonic, _real(reads), _real(writes), key)


def _real(registers: set[str]) -> frozenset[str]:
    """Without the register that is always zero."""
    return frozenset(registers - {"xzr"})


def split_operands(rest: str) -> list[str]:
    """Operands: commas inside brackets and braces do not separate."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(rest):
        depth += (c in "[{") - (c in "]}")
        if c == "," and depth == 0:
            parts.append(rest[start:i].strip())
            start = i + 1
    return [*parts, rest[start:].strip()] if rest.strip() else []


def operand(text: str, part: str) -> Operand:
    """A register, a list of registers, an immediate, a shift or a condition."""
    several = _LIST.match(part)
    if several:
        return _register_list(text, several[1], several[2])
    if _IMMEDIATE.match(part):
        return Operand((), "#")
    if _EXTEND.match(part):
        return Operand((), re.sub("lsr|asr", "lsl", part.split()[0]))
    if part in _CONDITIONS:
        return Operand((), "eq")
    vector = _VECTOR.match(part)
    if vector:
        width, number, arrangement, lane = vector.groups()
        kind = (arrangement or width) + ("[]" if lane else "")
        return Operand((f"v{number}",), kind, bool(lane))
    named = _NAMED.match(part)
    if named:
        width, name, arrangement, lane = named.groups()
        kind = (arrangement or width.replace("w", "x") or "x") + ("[]" if lane else "")
        return Operand((f"%{name}",), kind, bool(lane))
    scalar = _SCALAR.match(part)
    if scalar:
        return Operand(("sp" if part == "sp" else f"x{scalar[2]}",), "x")
    raise QgenError(f"unknown operand '{part}' in '{text}'", hint="see qgen/asm/isa.py")


def operand_registers(text: str) -> list[str]:
    """Registers that an access moves, in the order of its text."""
    parts = split_operands(text.strip().partition(" ")[2])
    moved = [p for p in parts if not p.startswith(("[", "#"))]
    return [r for p in moved for r in operand(text, p).registers]


def _register_list(text: str, inside: str, lane: str | None) -> Operand:
    """``{v0.16b, v1.16b}``, ``{v0.16b-v3.16b}``, ``{v0.s}[1]``."""
    first, dash, last = inside.partition("-")
    items = [operand(text, i.strip()) for i in ([first, last] if dash else inside.split(","))]
    names = [r for i in items for r in i.registers]
    if dash:
        start, end = (int(n[1:]) for n in names)
        names = [f"v{n % 32}" for n in range(start, start + (end - start) % 32 + 1)]
    kind = "{" + " ".join([items[0].kind] * len(names)) + "}" + ("[]" if lane else "")
    return Operand(tuple(names), kind, bool(lane))


def _branch(text: str, mnemonic: str, parts: list[str]) -> Instruction:
    reads: set[str] = set()
    if mnemonic in ("cbz", "cbnz", "tbz", "tbnz"):
        reads.update(operand(text, parts[0]).registers)
    elif "." in mnemonic:
        if mnemonic.split(".")[1] not in _CONDITIONS:
            raise QgenError(f"unknown instruction '{text}'", hint="add it to qgen/asm/isa.py")
        reads.add(FLAGS)
    key = "b.ne" if FLAGS in reads else mnemonic
    return Instruction(text, mnemonic, _real(reads), frozenset(), key, label=parts[-1])


def _memory(text: str, mnemonic: str, parts: list[str]) -> Instruction:
    at = next((i for i, p in enumerate(parts) if p.startswith("[")), None)
    if at is None:
        raise QgenError(f"no address in '{text}'", hint="see qgen/asm/isa.py")
    address, registers = _address(text, parts[at], parts[at + 1 :])
    hint = mnemonic in PREFETCH
    operands = [] if hint else [operand(text, p) for p in parts[:at]]
    reads, writes = set(registers), set()
    moved = {r for o in operands for r in o.registers}
    if mnemonic in STORES:
        reads |= moved
    else:
        writes |= moved
        # One lane of a register leaves the others as they are.
        reads |= {r for o in operands if o.lane for r in o.registers}
    if address.step != 0:
        writes.add(address.base)
    kind = (
        "[x]" if address.index else "[]" if address.step == 0 else "[]!" if address.pre else "[]#"
    )
    return Instruction(
        text,
        mnemonic,
        _real(reads),
        _real(writes),
        " ".join([mnemonic, *(o.kind for o in operands), kind]),
        address,
        load=mnemonic not in STORES and not hint,
        store=mnemonic in STORES,
    )


def _address(text: str, inside: str, after: list[str]) -> tuple[Address, set[str]]:
    """The address and the registers it reads."""
    pre = inside.endswith("!")
    base, *more = split_operands(inside.removesuffix("!")[1:-1])
    name = operand(text, base).registers[0]
    registers, offset, index = {name}, 0, ""
    if more and _IMMEDIATE.match(more[0]):
        offset = int(more[0].lstrip("#"), 0)
    elif more:
        index = ", ".join(more)
        registers.update(operand(text, more[0]).registers)
    step: int | None = offset if pre else 0
    if after and _IMMEDIATE.match(after[0]):
        step = int(after[0].lstrip("#"), 0)
    elif after:
        step = None
        registers.update(operand(text, after[0]).registers)
    return Address(name, offset, index, step, pre), registers


def inverse(mnemonic: str) -> str:
    """The branch on the opposite condition. Raises QgenError where there is none."""
    name, _, condition = mnemonic.partition(".")
    if name != "b" or condition not in _INVERSE:
        raise QgenError(f"branch '{mnemonic}' has no opposite")
    return f"b.{_INVERSE[condition]}"


_PRODUCTS = re.compile(r"(us|su)?[su]?(mull|mlal|mlsl|mla|mls|mul|dot|mmla)2?$")


def macs(instruction: Instruction) -> int:
    """Products of an instruction: one per lane of the result, four for dot products."""
    found = _PRODUCTS.fullmatch(instruction.mnemonic)
    lanes = re.match(r"\w+ (\d+)[bhsd]", instruction.key)
    if not found or not lanes:
        return 0
    return int(lanes[1]) * {"dot": 4, "mmla": 8}.get(found[2], 1)
