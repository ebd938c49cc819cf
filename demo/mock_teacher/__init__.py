"""A teacher without a model, for where there is no key: rewrites picked by retrieval, verdicts by rules. README.md says what it is not."""
