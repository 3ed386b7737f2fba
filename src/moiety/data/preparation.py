"""Preparation: from the columns of a table to the inputs of a network.

Fitted on training rows only, saved as JSON, and applied to any table with the same columns. It decides
no split and clips nothing; the range of activations is the ring's matter. Imported by the data owner's
loop and the demo.

Shapes: N rows, D inputs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self, override
