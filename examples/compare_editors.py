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
        before = [answer.text for answer in method.answer(UNRELATED, max_new_tokens=12)]
        start = time.perf_counter()
        method.edit(edits)
        seconds = time.perf_counter() - start
        questions = [pair[i] for i in (0, 1) for pair in EDITS.values()]
        texts = [answer.text for answer in method.answer([*questions, *UNRELATED], max_new_tokens=12)]
        expected, count = [*EDITS, *EDITS, *before], len(EDITS)
        right = [text == wanted for text, wanted in zip(texts, expected, strict=True)]
        shares = [f"{sum(part)}/{len(part)}" for part in (right[:count], right[count : 2 * count], right[2 * count :])]
        print(f"{name:<8}{shares[0]:>8}{shares[1]:>12}{shares[2]:>17}{seconds:>10.1f}")
        method.close()  # gives the model back unedited


if __name__ == "__main__":
    main()
