"""What can go wrong between a record and its row. The first question about each: is it worth another try?

In: driver errors, caught at the engine's border. Out: these, without driver text, path or DSN. Called by: receiver, query.

StorageError
├── StorageUnavailable      retry: the database is down, slow, full or being upgraded
└── StorageRejected         permanent: the same rows, or the same question, will fail again
    ├── SchemaTooOld        the database needs `wafer storage migrate`
    ├── SchemaTooNew        the program is older than the database allows
    ├── ArchiveDamaged      a file of the archive is not what the manifest says
    ├── ArchiveForeign      the archive belongs to another store, or has been used by another database since
    ├── CursorRejected      a cursor that this store did not give out
    └── DataFolderRejected  the embedded data folder belongs to another PostgreSQL version or another owner
"""


class StorageError(Exception):
    """The store could not do it."""


class StorageUnavailable(StorageError):  # noqa: N818 - the pair Unavailable/Rejected is named alike in every component
    """The store cannot answer now; try again."""


class StorageRejected(StorageError):  # noqa: N818 - as above
    """The store will never accept this."""


class SchemaTooOld(StorageRejected):
    """The database's schema is older than this program: run `wafer storage migrate`."""


class ArchiveDamaged(StorageRejected):
    """A file of the archive does not read back as what was written."""


class ArchiveForeign(StorageRejected):
    """This database must not write to this archive, or delete from it."""


class SchemaTooNew(StorageRejected):
    """A later release has taken from the database what this program needs: install that release."""


class CursorRejected(StorageRejected):
    """This cursor did not come from this API: start again without one."""


class DataFolderRejected(StorageRejected):
    """The embedded data folder cannot be used."""
