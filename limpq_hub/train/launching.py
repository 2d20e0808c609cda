"""How the user of this process starts a command: as a script of a checkout, or as a module of the package."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from types import TracebackType
from typing import NoReturn

from limpq_hub.errors import LimpqError, TrainingError
from limpq_hub.plan.option_wording import as_typed
from limpq_hub.plan.shell_command import shell_command
from limpq_hub.plan.standard_streams import end_of_system_error, open_closed_streams
from limpq_hub.train.extras import advice_for
from limpq_hub.train.loop.interrupt import handled_signals, how_to_resume, stop_at_once, stop_without_resume
from limpq_hub.zoo.hub_address import end_without_address

_SCRIPTS = Path("training")
# They run as one process: there is nothing for Accelerate to launch.
_WITHOUT_ACCELERATE = ("anchors", "compare", "publish")
_WITH_RESUME = ("pretrain", "indicators", "finetune")


def command_of(name: str, *arguments: str | PurePath) -> str:
    """Return what starts a command of the engine, as this user can type it into a shell.

    It names the script where this process was started as a script of the checkout that the user stands in, and the
    module everywhere else.

    Args:
        name: "indicators", "finetune", ...: a module of `limpq_hub.train`.
        arguments: as `shell_command` takes them.
    """
    launcher = ["python"] if name in _WITHOUT_ACCELERATE else ["accelerate", "launch"]
    return shell_command(*launcher, *_script_or_module(name), *arguments)


def torchrun_command(processes: int) -> str:
    """Return what starts the command of this process, without its options, as so many processes on CPUs."""
    target = _script_or_module(Path(sys.argv[0]).stem)
    return f"ACCELERATE_USE_CPU=true {shell_command('torchrun', '--nproc_per_node', str(processes), *target)}"


def command_line(name: str, argv: Sequence[str] | None) -> str:
    """Return the command that gives this result again, whether or not it was resumed.

    Args:
        argv: what was typed after the command; the process's own if None.
    """
    arguments = sys.argv[1:] if argv is None else argv
    return command_of(name, *(argument for argument in arguments if argument != "--resume"))


def run(main: Callable[[], None]) -> None:
    """Run a command: an error that was raised on purpose is one line on stderr, and its exit code; so is a signal."""
    open_closed_streams()
    for number in handled_signals():
        signal.signal(number, stop_at_once if _can_resume() else stop_without_resume)
    try:
        main()
        sys.stdout.flush()  # here, where an error can still be told
    except LimpqError as error:
        print(f"{_program()}: {as_typed(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        code, text = end_of_system_error(error)
        if text is not None:
            print(f"{_program()}: {text}", file=sys.stderr)
        sys.exit(code)
    except RuntimeError as error:
        # torch raises it in the main thread, wherever that is.
        if not str(error).startswith("DataLoader worker"):
            raise
        advice = "use fewer --workers if the memory ran out" + (", and --resume to go on" if _can_resume() else "")
        print(f"{_program()}: a process that decodes pictures died: {str(error).strip()} {advice}", file=sys.stderr)
        sys.exit(TrainingError.exit_code)
    except KeyboardInterrupt:
        _leave_interrupted()


def _can_resume() -> bool:
    return Path(sys.argv[0]).stem in _WITH_RESUME


def _leave_interrupted() -> NoReturn:
    print(f"{_program()}: interrupted{f'; {how_to_resume()}' if _can_resume() else ''}", file=sys.stderr)
    sys.exit(130)


def run_command(name: str) -> None:
    """Import a command of this package and run it, as `run` does; what keeps it from loading is one line too.

    Args:
        name: "indicators", "finetune", ...: a module of `limpq_hub.train`.
    """
    try:
        main = importlib.import_module(f"limpq_hub.train.{name}").main
    except (ModuleNotFoundError, ValueError) as error:
        _end_if_not_loaded(error)
        raise
    except KeyboardInterrupt:
        _leave_interrupted()
    run(main)


def tell_what_is_not_loaded() -> None:
    """Let what keeps a command from loading be one line where Python itself loads it: `python -m limpq_hub.train.X`."""
    before = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        """Exit with a line on stderr, or show the traceback of an error of another kind."""
        _end_if_not_loaded(error)
        before(kind, error, traceback)

    sys.excepthook = tell


def _end_if_not_loaded(error: BaseException) -> None:
    """Exit with a line on stderr if the error is of an extra that is not installed, or of the address of the Hub."""
    advice = advice_for(error) if isinstance(error, ModuleNotFoundError) else None
    if advice is not None:
        print(f"{_program()}: {advice}", file=sys.stderr)
        sys.exit(3)
    if isinstance(error, ValueError):
        end_without_address(_program())


def _script_or_module(name: str) -> list[str]:
    script, started = _SCRIPTS / f"{name}.py", Path(sys.argv[0])
    from_checkout = started.suffix == ".py" and started.resolve().parent == _SCRIPTS.resolve() and script.is_file()
    return [script.as_posix()] if from_checkout else ["-m", f"limpq_hub.train.{name}"]


def _program() -> str:
    """Return what an error line begins with: the name of the script, or of the module."""
    started = Path(sys.argv[0])
    if started.resolve().parent == Path(__file__).parent:
        return f"limpq_hub.train.{started.stem}"
    return started.name
