"""The product's services, one package each. No service imports another.

In a wheel this package is `aidevos.services`, and `aidevos` also exports an access rule of that name. The package is
therefore callable like the rule: `allow=services()` means the same whether or not the package has been imported.
"""

import sys
from types import ModuleType

from aidevos.security.permissions import Rule
from aidevos.security.permissions import services as rule


class _CallablePackage(ModuleType):
    def __call__(self) -> Rule:
        return rule()


sys.modules[__name__].__class__ = _CallablePackage
