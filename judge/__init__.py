"""How the pair judge that ships with meloedit is trained: rows, mixture of pairs, training, packing."""
