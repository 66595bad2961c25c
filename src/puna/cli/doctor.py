"""`puna doctor`: what this machine can do, and what to mend.

Every check stands alone: one that fails or crashes does not keep the others from being told. Torch
is asked in a process of its own, for an unfit build of it can end the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "mend"]
MARKS: dict[State, str] = {"ok": "ok  ", "note": "note", "mend": "MEND"}


@dataclass(frozen=True, slots=True)
class Finding:
    """`mend`: Puna does not work as it should until this is done; `note`: it could do more."""

    state: State
    what: str
    found: str
    advice: str = ""


def doctor() -> int:
    """Say what this machine can do, and what to mend. The exit code is 1 if something must be."""
    findings = [finding for check in CHECKS for finding in run_check(check)]
    width = max(len(finding.what) for finding in findings) + 2
    for finding in findings:
        print(f"{MARKS[finding.state]}  {finding.what.ljust(width)}{finding.found}")
        if finding.advice:
            print(f"      {' ' * width}-> {finding.advice}")
    return int(any(finding.state == "mend" for finding in findings))


Check = Callable[[], Iterator[Finding]]


def run_check(check: Check) -> list[Finding]:
    """What `check` finds; its own failure is a finding."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except Exception as error:
        what = check.__name__.strip("_")
        found.append(Finding("note", what, f"cannot be told: {type(error).__name__}: {error}"))
    return found


def _versions() -> Iterator[Finding]:
    import platform
    import sys
    from importlib.metadata import version

    python = platform.python_version()
    yield Finding("ok", "puna", f"{version('puna')} on Python {python}, {platform.platform()}")
    if sys.maxsize < 2**32:
        yield Finding("mend", "python", "32 bits", "models need a 64-bit Python")


def _processor() -> Iterator[Finding]:
    import os
    import platform
    from pathlib import Path

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    name = fields.get("model name", platform.processor() or platform.machine())
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    known = ("avx2", "f16c", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16")
    known += ("asimd", "bf16", "i8mm", "sve")
    features = [flag for flag in known if flag in flags]
    yield Finding("ok", "processor", f"{name}, {cores} cores; {' '.join(features) or 'no vectors'}")
    if platform.machine() in ("x86_64", "AMD64") and flags and "avx2" not in flags:
        yield Finding("note", "vectors", "no AVX2", "answers will be slow on this processor")


def _memory() -> Iterator[Finding]:
    from puna.cli.terminal import gigabytes
    from puna.engine.memory import free_memory
    from puna.llama.catalog import would_fit

    free = free_memory("cpu")
    fits = would_fit(free)
    if not fits:
        told = "no Llama of the catalog fits in bfloat16; the embedded models do"
        yield Finding("note", "memory", f"{gigabytes(free)} free", told)
    else:
        yield Finding("ok", "memory", f"{gigabytes(free)} free: up to {fits[0].name} in bfloat16")


_ASK_TORCH = """
import json, torch
from typing import get_args
from puna.kernels import Format, native
cuda = torch.cuda.is_available()
print(json.dumps({
    "version": torch.__version__,
    "capability": torch.backends.cpu.get_cpu_capability(),
    "threads": torch.get_num_threads(),
    "built": torch.version.cuda,
    "kernels": native.chosen(),
    "why_not": native.why_not(),
    "formats": get_args(Format),
    "gpus": [
        [torch.cuda.get_device_name(i), torch.cuda.get_device_properties(i).total_memory]
        for i in range(torch.cuda.device_count())
    ] if cuda else [],
}))
"""


def _torch() -> Iterator[Finding]:
    import json
    import shutil
    import subprocess
    import sys

    from puna.cli.terminal import gigabytes

    asked = subprocess.run(
        [sys.executable, "-c", _ASK_TORCH], capture_output=True, text=True, timeout=120, check=False
    )
    if asked.returncode != 0:
        why = (asked.stderr.strip().splitlines() or [f"it ended with {asked.returncode}"])[-1]
        yield Finding(
            "mend", "torch", f"does not run: {why}", "install it again: pip install torch"
        )
        return
    told = json.loads(asked.stdout)
    cpu = f"{told['capability']}, {told['threads']} threads"
    yield Finding("ok", "torch", f"{told['version']}; {cpu}")
    if told["why_not"] is None:
        formats = ", ".join(told["formats"])
        yield Finding("ok", "native kernels", f"{told['kernels']}; weights in {formats}")
    else:
        advice = "Puna computes with torch alone, which is slower"
        yield Finding("note", "native kernels", f"none: {told['why_not']}", advice)
    for name, memory in told["gpus"]:
        yield Finding("ok", "GPU", f"{name}, {gigabytes(memory)}")
    if not told["gpus"] and shutil.which("nvidia-smi"):
        built = (
            "this torch is built for CPUs alone" if told["built"] is None else "the driver is old"
        )
        yield Finding("mend", "GPU", f"there is one, but torch does not see it: {built}")


def _compiler() -> Iterator[Finding]:
    import shutil

    found = next((path for name in ("g++", "c++", "clang++") if (path := shutil.which(name))), None)
    if found:
        yield Finding("ok", "compiler", found)
    else:
        yield Finding(
            "note", "compiler", "none", "gcc lets native kernels be built on this machine"
        )


def _embedded() -> Iterator[Finding]:
    from puna.errors import CheckpointError
    from puna.opening import EMBEDDED, embedded

    for name in EMBEDDED:
        try:
            embedded(name)
        except CheckpointError:
            yield Finding("mend", name, "missing from this installation", "install Puna again")
        else:
            yield Finding("ok", name, "here")


def _hub() -> Iterator[Finding]:
    import shutil

    from puna.cli.terminal import gigabytes
    from puna.opening import hub_of, settings_from

    hub = hub_of(settings_from({}))
    there = hub.cache
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    advice = "set HF_HOME to a larger disk before you pull" if free < 5e9 else ""
    state: State = "note" if advice else "ok"
    yield Finding(state, "disk for models", f"{gigabytes(free)} free at {hub.cache}", advice)
    if hub.has_token():
        yield Finding("ok", "hub", f"{hub.address}, with a token")
    else:
        advice = "Meta's repositories need one: HF_TOKEN, or `hf auth login`"
        yield Finding("note", "hub", f"{hub.address}, no token", advice)


def _port() -> Iterator[Finding]:
    from puna.errors import StartupError
    from puna.opening import settings_from
    from puna.server import listen

    settings = settings_from({})
    try:
        listen(settings.host, settings.port).close()
    except StartupError as error:
        yield Finding("note", "port", error.message)
    else:
        yield Finding("ok", "port", f"{settings.port} is free on {settings.host}")


def _certificates() -> Iterator[Finding]:
    from puna.errors import StartupError
    from puna.proxy.trust import default_authorities, named_authorities
    from puna.proxy.upstream import route_of
    from puna.settings import environment

    surrounding = environment()
    found = default_authorities()
    if found:
        yield Finding("ok", "certificates", ", ".join(str(place) for place in found))
    else:
        advice = "install your system's ca-certificates, or pip install certifi"
        yield Finding("mend", "certificates", "none found", advice)
    for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"):
        try:
            if value := surrounding.get(variable):
                named_authorities(variable, value)
        except StartupError as error:
            yield Finding("mend", variable, error.message)
    try:
        upstream = route_of(surrounding).upstream
    except StartupError as error:
        yield Finding("mend", "proxy", error.message)
    else:
        way = f"through {upstream.host}:{upstream.port}" if upstream else "none"
        yield Finding("ok", "proxy", way)


def _sandboxes() -> Iterator[Finding]:
    from puna.opening import settings_from
    from puna.tools.code.ladder import why_not
    from puna.tools.code.rungs import LADDER

    settings = settings_from({})
    what, wanted = "code_interpreter", settings.code_sandbox
    for rung in LADDER:
        if wanted not in ("auto", rung.name):
            continue
        reason = why_not(rung, settings.code_packages)
        if reason is None:
            yield Finding("ok", what, rung.label)
            return
        yield Finding("note", what, f"not in {rung.name}: {reason}", rung.remedy)
    advice = "Puna's other parts work; to have it, do one of the above"
    yield Finding("note", what, "none of its walls holds here, so it is refused", advice)


CHECKS: tuple[Check, ...] = (
    _versions,
    _processor,
    _memory,
    _torch,
    _compiler,
    _embedded,
    _hub,
    _port,
    _certificates,
    _sandboxes,
)
