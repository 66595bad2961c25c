"""The command line as a whole: quick, and plain about what is wrong."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from puna.cli.main import COMMANDS, application, run_command_line
from puna.errors import CheckpointError
from puna.opening import settings_from

PUNA = str(Path(sys.executable).with_name("puna"))
CommandOutput = pytest.CaptureFixture[str]


def test_help_takes_less_than_150_ms_of_processor_time() -> None:
    """Processor time, not the clock's: a busy machine is no fault of ours. On a slow one: less than
    ten times what Python alone takes."""

    def seconds(*command: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # The quickest of several, as others only ever add.
    times = [(seconds(PUNA, "--help"), seconds(sys.executable, "-c", "")) for _ in range(9)]
    help_alone, python_alone = (min(each) for each in zip(*times, strict=True))
    assert help_alone < max(0.15, 10 * python_alone)


def test_the_commands_module_imports_nothing_heavy() -> None:
    heavy = (
        "torch",
        "pydantic",
        "rich",
        "starlette",
        "httpx2",
        "huggingface_hub",
        "PIL",
        "asyncio",
    )
    program = (
        f"import sys, puna.cli.main\nprint([name for name in {heavy!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"[]\n"


def test_help_lists_every_command(capsys: CommandOutput) -> None:
    assert run_command_line(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {command}" in listed for command in COMMANDS)


def test_without_a_command_the_help_is_shown(capsys: CommandOutput) -> None:
    assert run_command_line([]) == 0
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: CommandOutput) -> None:
    assert run_command_line([command, "--help"]) == 0
    assert f"Usage: puna {command}" in capsys.readouterr().out


def test_the_version_is_said(capsys: CommandOutput) -> None:
    assert run_command_line(["--version"]) == 0
    assert capsys.readouterr().out.startswith("puna 0.")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serv"], "No such command 'serv'. Did you mean 'serve'?"),
        (["serve", "--prt", "1"], "No such option: --prt"),
        (["serve", "--port", "many"], "Invalid value for '--port'"),
        (["serve", "--port", "99999"], "setting port 99999"),
        (["serve", "--device", "tpu"], "setting device 'tpu'"),
        (["serve", "--kv-memory", "lots"], "expected bytes, or like 512MB or 4GiB"),
        (["serve", "--alias", "old"], "expected NAME=MODEL"),
        (["run"], "Missing argument"),
        (["run", "--endpoint", "http://127.0.0.1:1", "-m", "x", "--", "true"], "leave out --model"),
        (["ask", "hi", "--temperature", "7"], "temperature is 7.0; expected a number from 0 to 2"),
        (["chat", "--max-tokens", "0"], "max_tokens is 0; expected a whole number of at least 1"),
        (["pull"], "Missing argument"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: CommandOutput,
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert run_command_line(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("puna: ")
    assert captured.err.count("\n") == 1
    assert said in captured.err


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("puna.opening.open_model", fail)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (CheckpointError("config.json: no JSON"), 1, "puna: config.json: no JSON\n"),
        (CheckpointError("two\nlines"), 1, "puna: two lines\n"),
        (FileNotFoundError(2, "No such file", "/x"), 1, "puna: /x: no such file\n"),
        (OSError(28, "No space left"), 1, "puna: no space left on the disk\n"),
        (KeyboardInterrupt(), 130, "puna: interrupted\n"),
    ],
)
def test_what_goes_wrong_is_one_line_and_a_sensible_code(
    error: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: CommandOutput,
) -> None:
    raising(monkeypatch, error)
    assert run_command_line(["chat", "anything"]) == code
    assert capsys.readouterr().err == line


def test_a_fault_of_ours_says_so_and_shows_the_trace_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: CommandOutput
) -> None:
    raising(monkeypatch, ZeroDivisionError("oh"))
    assert run_command_line(["chat", "anything"]) == 1
    told = capsys.readouterr().err
    assert "please report it: ZeroDivisionError: oh" in told
    assert "Traceback" not in told
    monkeypatch.setenv("PUNA_DEBUG", "1")
    assert run_command_line(["chat", "anything"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, capsys: CommandOutput) -> None:
    monkeypatch.setenv("PUNA_PORT", "many")
    assert run_command_line(["serve"]) == 2
    assert "PUNA_PORT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 9000", "puna: puna.toml: there is no setting prot\n"),
        ("port = ", "puna: puna.toml: Invalid value"),
        ("port = 'many'", "puna: setting port 'many'"),
    ],
)
def test_a_wrong_settings_file_is_named(
    text: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: CommandOutput,
) -> None:
    (tmp_path / "puna.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert run_command_line(["models"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(said)
    assert captured.err.count("\n") == 1


def test_what_is_said_on_the_command_line_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "puna.toml").write_text("port = 9001\nhost = '::1'\nmax_queue = 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PUNA_HOST", "0.0.0.0")
    monkeypatch.setenv("PUNA_PORT", "9002")
    settings = settings_from({"port": 9003, "device": None})
    assert (settings.port, settings.host, settings.max_queue) == (9003, "0.0.0.0", 7)


def test_a_reader_that_leaves_the_pipe_is_no_error() -> None:
    shell = f"{PUNA} models | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_is_without_help(name: str) -> None:
    from typer.main import get_command

    command = get_command(application(name)).commands[name]  # type: ignore[attr-defined]
    assert command.help
    for parameter in command.params:
        assert parameter.help, parameter.name
