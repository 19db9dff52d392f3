"""`tagtower study`: towers, objectives and seeds compared on one set of prepared examples.

`config` and `definition` say what is compared, `trials` what that means as single trainings, which
`training` runs and `trial_store` keeps. `results`, `statistics` and `questions` say what came out;
`tables`, `plots`, `report` and `page` show it. `run` is the way from one end to the other.

The modules `defaults_*` are the other kind of study: what is tried as the default, on several logs,
whose tables `log_tables` makes. Trainings and their store are the same.
"""
