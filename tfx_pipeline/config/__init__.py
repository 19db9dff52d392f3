"""The pipeline's configuration: its sections, how YAML becomes them."""
