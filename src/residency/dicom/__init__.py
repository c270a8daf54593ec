"""The codec of DICOM: bytes in, values out, and back. No network, no disk; with `archives` the only place for pydicom."""
