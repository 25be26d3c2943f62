"""Anchors, the settings of NMS, and the compiled libraries of NMS/, called from Python."""
