"""The compiled libraries of NMS/, called from Python."""
