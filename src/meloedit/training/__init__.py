"""Training: from the rows of an edit to the block that makes the model give its target.

One call of ``Trainer.train`` goes this way; ``paper/trainer.py`` goes it with one block for many edits::

    rows (prompt, target)          backbones/batch.py   Example, written by engine/planning.py
      -> micro-batches             replay.py            rows of like length, run in one forward pass
      -> frozen prefix, once       causal_replay.py     decoder-only models: the lower layers and the prompt's states
                                   encoder_replay.py    encoder-decoders and classifiers: the lower layers
                                   frozen_prefix.py     what both share
      -> optimiser steps           trainer.py           blocks start, learn, and leave once their edit holds
                                   passes.py            scores rows; tries blocks on rows that they did not learn from
                                   choice.py            the likeliest tokens, which most steps look at alone
                                   scores.py            loss of each edit, and whether it holds
                                   penalties.py         penalties on repetition that the model ships
                                   optimizer.py         Adam on all blocks at once
      -> block in float16          hooks/blocks.py      Trained.block, which the engine stores
"""
