"""The SavedModel that answers: retrieval, filters, memory, neighbours, its export and warm-up."""
