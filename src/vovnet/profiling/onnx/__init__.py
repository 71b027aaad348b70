"""The cost of exported ONNX files: reading their graph, counting its nodes, and running them."""
