"""What a run is examined for before it costs anything: the rewards under attack, the machine, the services, the rows."""
