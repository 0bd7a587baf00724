"""Workers: processes beside this one that train edits, or run the methods of an evaluation.

One piece of work goes this way::

    executors.py    what a caller chooses: Spawn, Ray, or none (this process)
      -> crew.py         hands tasks out, does those of a dead worker again, gives the outcomes back in order
      -> spawn.py        processes of this machine, each running process.py
         ray_actors.py   actors of a Ray cluster
      -> training.py     a worker's job for edits: it loads the base model once and trains parts

A worker holds no store. It gets rows of tokens, and returns blocks as bytes. Planning, trials, keys and every
transaction stay in the process that asked, in the order of the edits.
"""
