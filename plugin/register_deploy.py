"""What `swift deploy` loads as --external_plugins."""

from overtake.hang_up import register

register()
