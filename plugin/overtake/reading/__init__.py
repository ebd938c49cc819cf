"""Reading what a model wrote: pure functions, no ms-swift, no torch."""
