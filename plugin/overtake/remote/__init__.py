"""The only place that opens a socket to a service that is not ours to trust."""
