"""What computes: TensorFlow and OpenVINO on a host, Poplar on an IPU."""
