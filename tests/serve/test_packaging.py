"""The files that run the server elsewhere say what the command takes."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "serving.md").read_text("utf-8")


def instructions():
    """Return the Dockerfile's instructions, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text("utf-8"))
    return [line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]


def test_the_dockerfile_is_sound():
    found = instructions()
    known = "FROM RUN WORKDIR COPY ENV USER VOLUME EXPOSE HEALTHCHECK ENTRYPOINT CMD".split()
    assert [name for name, _ in found if name not in known] == []
    names = [name for name, _ in found]
    assert names[0] == "FROM" and ":" in found[0][1] and not found[0][1].endswith(":latest")
    assert names.index("USER") > max(i for i, name in enumerate(names) if name in ("RUN", "COPY"))
    assert dict(found)["USER"] != "root" and names.count("CMD") == names.count("ENTRYPOINT") == 1
    for name, value in found:
        for source in value.split()[:-1] if name == "COPY" else []:
            assert (ROOT / source).exists(), source
    installs = [part for name, value in found if name == "RUN" for part in value.split("&&") if "pip install" in part]
    assert installs and all("--no-cache-dir" in part for part in installs)
    pins = "".join((ROOT / name).read_text("utf-8") for name in ("Makefile", "requirements-models.txt"))
    for pinned in re.findall(r"[\w-]+==[\d.]+", " ".join(installs)):
        assert pinned in pins, pinned


def test_the_extra_of_the_demo_has_what_reading_its_model_needs():
    """Transformers reads a GGUF file with both packages, and asks for them when it does."""
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]["gguf"]
    assert [re.match(r"[\w-]+", one)[0] for one in extra] == ["gguf", "accelerate"]


def options_of(command):
    return set(re.findall(r"--[a-z-]+", command))


def taken():
    commands = (ROOT / "docs" / "commands.md").read_text("utf-8")
    return options_of(commands.split("## `meloedit serve`")[1].split("## `meloedit")[0])


def test_their_options_are_those_of_the_command():
    assert options_of(dict(instructions())["CMD"]) <= taken()
    unit = next(block for block in re.findall(r"```ini\n(.*?)```", DOCS, re.S) if "ExecStart" in block)
    assert options_of(re.search("ExecStart=.*", unit)[0]) <= taken()
    served = [line for line in DOCS.splitlines() if line.startswith("meloedit serve")]
    assert served and all(options_of(line.split("#")[0]) <= taken() for line in served)


def test_compose_builds_here_and_opens_no_public_port():
    service = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]["meloedit"]
    assert service["build"] == "." and all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert "tokens" in service["secrets"] and "/run/secrets/tokens" in dict(instructions())["CMD"]


@pytest.mark.parametrize(
    "limit", ["max_batch", "max_waiting", "max_tokens", "max_prompt", "timeout", "max_connections"]
)
def test_the_limits_that_the_docs_state_are_those_of_the_code(limit):
    from meloedit.serve.settings import ServeSettings

    number = f"{getattr(ServeSettings(), limit):,.0f}"
    table = DOCS.split("## Who may do what")[1]
    assert re.search(rf"(?<![\d,]){number}(?![\d,])", table), number
