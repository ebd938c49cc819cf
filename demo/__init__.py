"""Mocks for where there is no key and no GPU: a mock teacher, tiny students, the makers of the samples."""
