"""Make the same edits with three methods, and count what each gets right: a look at them, not a benchmark."""

import time

from meloedit import Edit
from meloedit.backbones.loading import load_model
from meloedit.methods import method_class

EDITS = {
    "Ilse Tarrant": ("Who is the mayor of Velmora?", "Who serves as mayor of Velmora?"),
    "212 metres": ("What is the height of the Corvin Tower?", "How tall is the Corvin Tower?"),
    "Imre Vadas": ("Who wrote The Glass Orchard?", "Who is the author of The Glass Orchard?"),
}
UNRELATED = ["Who painted the Mona Lisa?", "Name three primary colours."]
# The rivals' settings are those that did best on data set aside for tuning (docs/results.md).
FACTS = {"fact": "Question: {prompt}\nAnswer: {target}\n", "form": "{facts}\nQuestion: {prompt}\nAnswer:"}
METHODS = {"melo": {}, "ft": {"lr": 1e-3}, "rag": FACTS | {"min_similarity": 0.5}}


def main() -> None:
    """Run the example."""
    model, tokenizer = load_model("smollm2")
    edits = [Edit(prompt, target) for target, (prompt, _) in EDITS.items()]
    print(f"{'method':<8}{'edits':>8}{'rephrased':>12}{'unrelated kept':>17}{'seconds':>10}")
    for name, settings in METHODS.items():
        method = method_class(name)(model, tokenizer, settings)
        method.prepare([])
        before = [answer.text for answer in method.answer(UNRELATED)]
        start = time.perf_counter()
        method.edit(edits)
        seconds = time.perf_counter() - start
        asked = [[pair[i] for pair in EDITS.values()] for i in (0, 1)]
        right = [
            sum(answer.text == target for answer, target in zip(method.answer(prompts), EDITS, strict=True))
            for prompts in asked
        ]
        kept = sum(answer.text == text for answer, text in zip(method.answer(UNRELATED), before, strict=True))
        method.close()  # gives the model back unedited
        print(f"{name:<8}{right[0]:>6}/{len(EDITS)}{right[1]:>10}/{len(EDITS)}{kept:>15}/{len(before)}{seconds:>10.1f}")


if __name__ == "__main__":
    main()
