"""The edited model at run time: find the prompt of a call, read its key, add the blocks that its route names.

A call of ``generate()`` or ``model()`` goes this way::

    router.py           the hooks: before the model, at the key layer, at each edited module, after the model
      (encoder_router.py  the same where an encoder or a classifier reads the prompt)
      -> calls.py         which arguments are the prompt, what is refused
      -> describe.py      where the prompt lies in the call's columns, with key_reader.py: which tokens make its key
      -> prompt_batch.py  the prompts of the call; pools the key layer's states once all have been seen
      -> the decider      handed in by the engine: which block answers, and the route
      -> blocks.py        the delta of each row's block (Eq. 10), gathered from bank.py
    thread_state.py     what one thread is doing; state_reader.py  keys of prompts outside any call
"""
