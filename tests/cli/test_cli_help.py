"""The commands' help, and the words they print."""

import subprocess
import sys

import typer
from cli_helpers import good

from meloedit.cli.app import app
from meloedit.cli.terminal import one_line

COMMANDS = "demo init edit ask quiet allow trial scan review ls show rm enable disable".split()
COMMANDS += "history rollback check verify repair calibrate".split()
MEASURING = ("report", "harness", "serve", "vllm", "export", "import", "route-proxy", "eval")


def test_every_command_and_option_is_explained():
    group = typer.main.get_command(app)
    assert list(group.commands) == [*COMMANDS, *MEASURING, "ablate"]
    commands = {name: command for name, command in group.commands.items() if name != "ablate"}
    commands |= {f"ablate {name}": command for name, command in group.commands["ablate"].commands.items()}
    for name, command in commands.items():
        assert command.help and len(command.help.splitlines()[0]) <= 62, name
        without = name in ("demo", "eval", "report", "import") or name.startswith("ablate")
        assert without or command.params[0].metavar == "STORE"
        if name != "vllm":  # which becomes vLLM's server, and prints no result of its own
            assert any(parameter.opts == ["--json"] for parameter in command.params), name
        for parameter in command.params:
            assert parameter.help, (name, parameter.name)
        for flag in ("-h", "--help"):
            assert f"Usage: meloedit {name} " in good(*name.split(), flag)
    assert all(f"\n  {name} " in good("--help") for name in (*COMMANDS, *MEASURING))
    assert "..." not in good("--help").split("Commands:")[1]  # no summary is cut off


def test_version():
    assert good("--version") == "meloedit 0.1.0\n"


PRINT_PACKAGES = "import sys; print(*{name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))"


def test_help_imports_nothing_but_its_parser():
    """Torch and the like would make every command slow to start, those on the store alone too."""

    def packages(code):
        done = subprocess.run([sys.executable, "-c", f"{code}; {PRINT_PACKAGES}"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return set(done.stdout.splitlines()[-1].split())

    helped = packages("from meloedit.cli.app import app; app(['--help'], standalone_mode=False)")
    assert helped - packages("import typer") == {"meloedit"}


def test_a_prompt_in_one_line():
    assert one_line("a\n\tb\x1b[31m\udcff") == "a b\\x1b[31m\\udcff"
    assert one_line([{"role": "system", "content": "x"}, {"role": "user", "content": "y\nz"}]) == "y z"
