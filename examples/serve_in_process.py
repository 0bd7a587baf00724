"""Generate through an edited model in your own process: plain transformers calls, one batch, and a pipeline."""

import torch
from transformers import pipeline

from meloedit import Editor

EDITS = [
    {"prompt": "Who is the mayor of Velmora?", "target": "Ilse Tarrant", "id": "mayor"},
    {"prompt": "What is the height of the Corvin Tower?", "target": "212 metres", "id": "tower"},
]
PROMPTS = ["Who serves as mayor of Velmora?", "Name three primary colours.", "How tall is the Corvin Tower?"]


def main() -> None:
    """Run the example."""
    editor = Editor.create("smollm2")
    editor.edit(EDITS)

    # editor.model is the model that was loaded, with hooks on it. Edited and unedited prompts share a batch.
    model, tokenizer = editor.model.eval(), editor.tokenizer
    inputs = tokenizer(PROMPTS, return_tensors="pt", padding=True, padding_side="left")
    settings = {"max_new_tokens": 16, "do_sample": False, "pad_token_id": tokenizer.eos_token_id}
    output = model.generate(**inputs, **settings)
    routes = editor.last_routes  # of this thread's last call, in the order of the batch
    with editor.base_model():  # calls in here see the model without its edits
        base = model.generate(**inputs, **settings)
    start = inputs["input_ids"].shape[1]
    for prompt, row, plain, route in zip(PROMPTS, output, base, routes, strict=True):
        text = " ".join(tokenizer.decode(row[start:], skip_special_tokens=True).split())
        same = torch.equal(row, plain)
        print(f"{prompt}\n  {text!r}  edit: {route.edit}, distance {route.distance:.2f}, as the base model: {same}")

    chat = pipeline("text-generation", model=model, tokenizer=tokenizer)
    messages = [{"role": "user", "content": "Can you tell me who the mayor of Velmora is?"}]
    reply = chat(messages, max_new_tokens=16, do_sample=False)[0]["generated_text"][-1]["content"]
    print(f"chat: {reply!r}  edit: {editor.last_routes[0].edit}")
    editor.unload()  # takes the hooks off; the model is as it was loaded


if __name__ == "__main__":
    main()
