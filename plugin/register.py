"""Plugin that `--external_plugins` loads; the work is in the package, because ms-swift runs this file anew in every process."""

import overtake

overtake.register()
