"""Rivals that locate a fact at its subject's last token, and write it there into feed-forward matrices."""
