"""The seccomp filter: its program says what its rules say, here run by a small BPF machine."""

import struct

import pytest

from puna.tools.code import seccomp
from puna.tools.code.seccomp import ALONE, ALWAYS, Rule, program


def decide(code: bytes, architecture: int, number: int, *arguments: int) -> int:
    """What the kernel would do: BPF's meaning, for the few instructions that are used."""
    given = [*arguments, *([0] * (6 - len(arguments)))]
    data = struct.pack("<iIQ6Q", number, architecture, 0, *(a % 2**64 for a in given))
    steps = list(struct.iter_unpack("=HBBI", code))
    at, held = 0, 0
    while True:
        kind, true, false, value = steps[at]
        at += 1
        if kind == 0x20:
            (held,) = struct.unpack_from("<I", data, value)
        elif kind == 0x06:
            return value
        else:
            passes = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[kind]
            at += true if passes else false


X86, ARM = 0xC000003E, 0xC00000B7


@pytest.mark.parametrize("rules", [ALWAYS, ALWAYS + ALONE])
def test_a_foreign_architecture_is_killed(rules: tuple[Rule, ...]) -> None:
    for foreign in (0x40000003, ARM, 0):
        assert decide(program(rules, "x86_64"), foreign, 39) == seccomp.KILL
    assert decide(program(rules, "aarch64"), X86, 172) == seccomp.KILL


@pytest.mark.parametrize(("machine", "architecture"), [("x86_64", X86), ("aarch64", ARM)])
def test_every_rule_without_a_condition_refuses_its_call(machine: str, architecture: int) -> None:
    code = program(ALWAYS + ALONE, machine)
    column = list(seccomp.ARCHITECTURES).index(machine)
    for rule in ALWAYS + ALONE:
        number = seccomp.NUMBERS[rule.call][column]
        if number is not None and rule.argument is None and rule.call != "socket":
            assert decide(code, architecture, number) == rule.action


@pytest.mark.parametrize("number", [463, 470, 1000, 0x40000000, 0x40000000 + 59, 2**31 - 1])
def test_calls_newer_than_the_table_do_not_exist(number: int) -> None:
    assert decide(program(ALWAYS, "x86_64"), X86, number) == seccomp.UNKNOWN


@pytest.mark.parametrize("number", [0, 1, 2, 9, 13, 35, 39, 60, 202, 228, 257, 262, 318, 334])
def test_ordinary_calls_pass(number: int) -> None:
    assert decide(program(ALWAYS + ALONE, "x86_64"), X86, number) == seccomp.ALLOW


def test_sockets_are_unix_or_none() -> None:
    code = program(ALWAYS, "x86_64")
    for family in range(64):
        expected = seccomp.ALLOW if family == seccomp.AF_UNIX else seccomp.REFUSE
        assert decide(code, X86, 41, family) == expected
    # the kernel reads an int: what stands above it must not hide the family
    assert decide(code, X86, 41, (1 << 32) | 2) == seccomp.REFUSE
    assert decide(program(ALWAYS + ALONE, "x86_64"), X86, 41, 1) == seccomp.REFUSE


def test_threads_may_be_made_and_processes_only_where_they_are_alone() -> None:
    thread = 0x3D0F00  # what glibc asks for
    both, alone = program(ALWAYS, "x86_64"), program(ALWAYS + ALONE, "x86_64")
    assert decide(both, X86, 56, thread) == seccomp.ALLOW
    assert decide(alone, X86, 56, thread) == seccomp.ALLOW
    assert decide(both, X86, 56, 17) == seccomp.ALLOW
    assert decide(alone, X86, 56, 17) == seccomp.REFUSE
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert decide(both, X86, 56, flag | 17) == seccomp.REFUSE
        assert decide(both, X86, 56, flag | thread) == seccomp.REFUSE


def test_each_argument_rule_leaves_the_call_number_for_the_next() -> None:
    # ioctl's rules stand before others: a harmless ioctl must not shadow them
    code = program((Rule("ioctl", argument=1, value=7), Rule("ptrace")), "x86_64")
    assert decide(code, X86, 16, 0, 7) == seccomp.REFUSE
    assert decide(code, X86, 16, 0, 8) == seccomp.ALLOW
    assert decide(code, X86, 101) == seccomp.REFUSE


def test_a_processor_without_a_table_is_told() -> None:
    assert not seccomp.known("riscv64")
    with pytest.raises(ValueError, match="riscv64"):
        program(ALWAYS, "riscv64")


def test_the_program_is_short_enough_for_the_kernel() -> None:
    assert len(program(ALWAYS + ALONE, "x86_64")) // 8 < 4096
