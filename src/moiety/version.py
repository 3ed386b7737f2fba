"""Which moiety this is. Versions need not be equal: parties of one wire version understand each other."""

from importlib.metadata import version
from typing import Final

SOFTWARE_VERSION: Final = version("moiety")
