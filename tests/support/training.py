"""Training without an engine: the rows of an edit, and the blocks of edits under changed settings."""

from dataclasses import replace

from meloedit.backbones.batch import Example
from meloedit.training.trainer import Trainer


def rows_of(editor, edit):
    """Return the rows of an edit: each of its prompts in every form, with the target."""
    forms = [form for prompt in edit.prompts for form in editor.backbone.forms(prompt)]
    return [Example.of(form, editor.backbone.encode_target(edit.target, form)) for form in forms]


def train(editor, edits, **settings):
    """Train edits under the editor's settings and the given ones; nothing is stored."""
    trainer = Trainer(editor.engine.router, replace(editor.config, **settings))
    return trainer.train([(edit.id, rows_of(editor, edit)) for edit in edits])
