"""Tests, folder by folder as the code; see CONTRIBUTING.md."""
