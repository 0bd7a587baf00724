"""Model, index and store kept in step: how edits are made, how prompts are answered.

Making edits, by ``Editor.edit``::

    edits
      -> planning.py        checked and tokenised; what each means for the store (prevailing.py)
      -> editing.py         in parts: trained (training/), keyed (the policy), stored in one transaction (store/)
      -> engine.py          reads back what was stored (following/): blocks into the bank, keys into the index
      -> results.EditReport

Answering, inside a forward pass of the model::

    prompt -> hooks/ pool the key layer's states -> Engine.decide -> the policy names an edit, the engine its block

The default and the paper mode differ in their policy and their trainer (``mode.py``); everything else is common.
``answering.py``, ``checking.py`` and ``recalibration.py`` are what ``Editor.ask``, ``check`` and ``calibrate`` do,
``opening.py`` makes and opens stores for a model, ``views.py`` and ``hub.py`` are parts of the public face.
"""
