"""The servable, a SavedModel: retrieval, filters, memory, neighbours, export and warm-up."""
