"""Examination of a run before it costs anything: the rewards under attack, the machine, the services, the rows."""
