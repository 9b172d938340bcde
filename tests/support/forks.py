"""Makes the process that forks programs (tests/support/programs.py) end with the tests, however they end."""

from tests.support.orphans import end_with_parent

end_with_parent()
