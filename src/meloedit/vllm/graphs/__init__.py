"""The passes of a model that vLLM compiles, or captures in CUDA graphs: ops read the key and add the blocks.

A compiled pass runs past hooks that are put on later. So the model's class itself has the two places, from before vLLM
compiles it: an op behind the key layer, and an op in each edited module (``models.py``). What they read and write has
fixed shapes and stays where it is (``wide.py``).
"""
