"""A local model server that speaks TensorFlow Serving's gRPC and REST.

With it nobody needs Docker to try or to test a servable. It is deliberately not a server for heavy
traffic. The import of this package imports neither TensorFlow nor gRPC; that of `server` does.
"""
