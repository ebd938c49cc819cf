"""The tiny students of the quickstart and the chains: a tokenizer and about a million weights each."""
