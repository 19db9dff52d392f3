"""The layers of the model: the user tower with its attention and crossing, the tag tower."""
