"""Readers of the data sets that ask what follows from an edit: KnowEdit, RippleEdits and MQuAKE."""
