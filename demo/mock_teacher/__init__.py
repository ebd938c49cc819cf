"""A teacher without a model, for where there is no key: rewrites picked by retrieval, verdicts by rules. demo/README.md says more."""
