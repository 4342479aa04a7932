"""Faces made by programs: the open face, and synthetic assets for tests."""
