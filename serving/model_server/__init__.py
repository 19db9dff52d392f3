"""A local model server that speaks TensorFlow Serving's gRPC and REST.

It exists so that nobody needs Docker to try or to test a servable. What it deliberately is not: a
server for heavy traffic. Importing this package imports neither TensorFlow nor gRPC; `server` does.
"""
