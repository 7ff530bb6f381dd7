"""What comes with the package, and what does not."""

import subprocess
import sys

from conftest import ROOT

LOADED = """
import proxy, sys
assert "requests" in sys.modules
assert "charset_normalizer" not in sys.modules
import charset_normalizer
"""


def test_what_guesses_encodings_is_not_loaded_and_whoever_wants_it_gets_it() -> None:
    script = [sys.executable, "-W", "error", "-c", LOADED]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
