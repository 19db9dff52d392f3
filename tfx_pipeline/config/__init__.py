"""The pipeline's configuration: its sections, and how a YAML file becomes them."""
