"""How it is produced: readers, Beam transforms, TFX components, wiring, runners, commands."""
