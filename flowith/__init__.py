"""Everything that knows Flowith, and nothing that knows OpenAI or Flask."""

import sys
import warnings

# requests guesses encodings by a library that takes 3 MB, 6 % of all that the service takes at rest
# (measured). Nothing here asks it to, and it does without, with a warning.
GUESSES = "charset_normalizer"
if GUESSES not in sys.modules:
    sys.modules[GUESSES] = None  # type: ignore[assignment]  # which says that there is none
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import requests  # noqa: F401 - the rest of this package finds it as it is now
    del sys.modules[GUESSES]
