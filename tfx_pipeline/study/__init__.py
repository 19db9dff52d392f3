"""`tagtower study`: towers, objectives and seeds compared on one set of prepared examples.

`grid` says what is compared, `trials` trains it, `report` shows what came out, and `run` is the way
from one end to the other; `defaults_run` is that of what is tried as the default on several logs.
"""
