"""The product's services, a package each; none imports another.

In a wheel this package is `aidevos.services`, and `aidevos` exports a rule of that name. So the package can be called
like the rule: `allow=services()` means the same whether or not the package has been imported.
"""

import sys
from types import ModuleType

from aidevos.security.permissions import Rule
from aidevos.security.permissions import services as rule


class _CallablePackage(ModuleType):
    def __call__(self) -> Rule:
        return rule()


sys.modules[__name__].__class__ = _CallablePackage
