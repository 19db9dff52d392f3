"""The layers of the model: the user tower with attention and crossing, the tag tower, its views."""
