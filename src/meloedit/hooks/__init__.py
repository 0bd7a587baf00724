"""The edited model at run time: find the prompt of a call, read its key, add the blocks that its route names."""
