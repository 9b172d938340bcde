"""Backups of a fleet: copies of everything that it keeps, encrypted, in a folder or in object storage.

Reading, encryption, storage and restoring are one module each. The command `aidevos` is the only user.
"""
