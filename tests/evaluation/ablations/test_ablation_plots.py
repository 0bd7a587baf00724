"""The drawings of the ablations: names as they are, and the extra that draws."""

import subprocess
import sys
from pathlib import Path

import ablation_commands
from ablation_commands import COMMON, FakeEditor, bad, check_png, found, write

from meloedit.evaluation.ablations import plots

place = ablation_commands.place


def test_names_are_drawn_as_they_are(place):
    odd = ["$x$ and $", "_hidden", "\N{CJK UNIFIED IDEOGRAPH-5B57}", "a " * 60, r"\frac{", "%s {}"]
    write(Path("facts.jsonl"), *({"prompt": f"town {i}", "target": name} for i, name in enumerate(odd)))
    data = found("keys", "--targets", 6)
    check_png(Path("out/keys.png"))
    (legend,) = plots._keys(data).legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert len(texts) == 6 and texts[1].strip() == "_hidden" and len(texts[3]) < 32


def test_names_of_layers_are_told_apart_by_where_they_differ():
    assert plots.short_names(["a.0.wo", "a.12.wo"]) == (["0", "12"], "a.*.wo")
    assert plots.short_names(["a.0", "a.0.wo"]) == (["-", "wo"], "a.0.*")
    assert plots.short_names(["a.0", "b.1"]) == (["a.0", "b.1"], "")
    assert plots.short_names(["a.b"]) == (["a.b"], "")
    assert plots.short_names(["a.a", "a.a.a"]) == (["-", "a"], "a.a.*")


def test_drawing_needs_its_extra(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert bad("radius", *COMMON) == "drawing needs the extra 'plots': pip install 'meloedit[plots]'"
    assert not FakeEditor.opened


def test_help_imports_neither_torch_nor_matplotlib():
    code = "import sys; from meloedit.cli.app import app; app(sys.argv[1:], standalone_mode=False)"
    code += "; assert not {'torch', 'transformers', 'matplotlib', 'numpy'} & sys.modules.keys()"
    for args in (["--help"], ["ablate", "--help"], ["ablate", "radius", "--help"]):
        subprocess.run([sys.executable, "-c", code, *args], check=True, capture_output=True)
