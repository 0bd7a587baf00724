"""One SQLite file: the edits, their blocks and keys, and the history of every change.

Three words describe the contents:

* A *record* is one version of an edit with its trained block, or the number of the record that holds it. It never
  changes.
* A *revision* is one transaction. Revisions are numbered from 1.
* A *change* belongs to a revision. It says which record of an edit is live from then on and whether the edit is
  enabled, or that the edit is removed.

The live edits are those whose latest change names a record. Therefore the store can read the edits of any revision, and
a rollback is one more revision. A *calibration* holds what turns prompts into keys. The latest revision says which
calibration is in force, and a record has one set of keys per calibration.

A commit takes these steps (:mod:`.writer` calls the other files in this order, :mod:`.store` says what is written):

1. ``database`` takes the writer's lock, a file beside the store, and opens a connection, which ``guard`` limits: the
   schema must be a store's own, and no query may take more steps or bytes than the file has room for.
2. ``writer`` begins the transaction and checks that no other program changed the file since it was loaded.
3. ``rows`` inserts records and keys, whose tensors ``tensors`` packs into bytes, then the revision and its changes.
   Each row carries a checksum from ``schema``, and ``chain`` links them to the revisions before.
4. ``state`` reads back the edits that the revision changed. SQLite commits, and only then the new state replaces the
   one in memory.

``reader`` has the operations that leave the file as it is, ``making`` makes new files, ``guard`` looks for damage,
``repair`` saves what is whole, ``scope_cache`` has the one row that may be overwritten. Importing this package does not
import torch.
"""

from .guard.integrity import verify
from .records import GIVEN, ChangeRow, Record, Revision, StoredEdit
from .repair import Repair, repair
from .store import Store

__all__ = ["GIVEN", "ChangeRow", "Record", "Repair", "Revision", "Store", "StoredEdit", "repair", "verify"]
