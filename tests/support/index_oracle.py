"""A literal model of the index: one edit at a time, in float64, as the definitions have it."""

import math

import torch
from torch.nn import functional as F

from meloedit.keys.keys import MAX_WORDS, Keys, KeyShape

SIZE = 8


def vectors_of(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def unit(*shape, seed=0):
    """Keys of content alone."""
    return Keys.of_content(vectors_of(*shape, seed=seed))


def named(*shape, seed=0):
    """Keys with names: one to three words of nine, whose shares add up to 1."""
    rng = torch.Generator().manual_seed(seed)
    words = torch.zeros(*shape[:-1], MAX_WORDS)
    words[..., :3] = torch.randint(0, 10, (*shape[:-1], 3), generator=rng).float()
    words[..., 1][words[..., 1] == words[..., 0]] = 0
    words[..., 2][(words[..., 2] == words[..., 0]) | (words[..., 2] == words[..., 1])] = 0
    words[..., 0][words.sum(-1) == 0] = 11
    shares = torch.rand(words.shape, generator=rng) * (words > 0)
    parts = vectors_of(*shape[:-1], SIZE, seed=seed), vectors_of(*shape[:-1], 4, seed=seed + 1)
    return Keys(*parts, words.to(torch.int32), shares / shares.sum(-1, keepdim=True))


def near(keys, *others, by=0.01):
    """Return content that lies near a key's: the key's and a little of each other."""
    return Keys.of_content(F.normalize(keys.content + by * sum(other.content for other in others), dim=-1))


PLAIN, NAMED = KeyShape(SIZE), KeyShape(SIZE, 4)
MAKE = {PLAIN: unit, NAMED: named}


def make(shape, count, seed=0):
    return MAKE[shape](count, shape.content, seed=seed)


def terms(query, key):
    """Return content, relation, codes and shares of one query (1,) and one key (1,) in float64."""
    return [(q[0].double(), e[0].double()) for q, e in zip(query, key, strict=True)]


def mentioned_share(query, key):
    heard = {code for code in query.word_codes[0].tolist() if code}
    pairs = zip(key.word_codes[0].tolist(), key.word_shares[0].double().tolist(), strict=True)
    return sum(share for code, share in pairs if code in heard)


def literal_similarity(query, key):
    """Return s as its definition says, of one query and one key in float64."""
    (content, own), (relation, other), *_ = terms(query, key)
    if not len(relation):
        return (content @ own).item()
    return ((content @ own + 2 * mentioned_share(query, key) * (1 + relation @ other)) / 5).item()


def rows(keys):
    return [keys[[i]] for i in range(len(keys))]


class Literal:
    """The index's promises, one edit at a time, in float64."""

    def __init__(self):
        self.edits = {}

    def distances(self, keys, query):
        return torch.tensor([self.distance(key, query) for key in rows(keys)], dtype=torch.float64)

    def distance(self, key, query):
        """Return sqrt(2 - 2 s) by differences, since products lose the small ones."""
        (content, own), (relation, other), *_ = terms(query, key)
        if not len(relation):
            return (content - own).norm().item()
        missed = key.word_shares[0].double().sum().item() - mentioned_share(query, key)
        square = (content - own).norm() ** 2 + 8 * missed + 2 * (1 - missed) * (relation - other).norm() ** 2
        return (square / 5).sqrt().item()

    def search(self, query):
        """Return the free edits as (distance, number), nearest and newest first, and the nearest suppressed one."""
        free, suppressed = [], (math.inf, 0)
        for owner, (keys, quiet) in self.edits.items():
            distances, quiet_at = self.distances(keys, query), self.distances(quiet, query)
            nearest = distances.min().item()
            if len(quiet) and quiet_at.min().item() <= nearest:
                suppressed = min(suppressed, (nearest, -owner))
            else:
                free.append((nearest, -owner))
        free = sorted(free) + [(math.inf, 1)]
        nearer = suppressed[0] <= free[0][0] and suppressed[0] < math.inf
        return [(distance, -owner) for distance, owner in free], -suppressed[1] if nearer else -1, suppressed[0]

    def similarity(self, prompts, rate, floor):
        keys = [key for keys, _ in self.edits.values() for key in rows(keys)]
        best = torch.full((len(prompts),), -1.0)
        if keys:
            best = torch.tensor([max(literal_similarity(prompt, key) for key in keys) for prompt in rows(prompts)])
        place = math.ceil((len(prompts) + 1) * (1 - rate))
        return math.inf if place > len(prompts) else max(floor, sorted(best.tolist())[place - 1])
