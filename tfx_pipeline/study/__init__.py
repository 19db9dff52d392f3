"""`tagtower study`: towers, objectives and seeds compared on one set of prepared examples.

`grid` defines what is compared, `trials` trains it, `report` shows the results, and `run` does all
of it; `defaults_run` does the same for candidates for the default on several logs.
"""
