"""The codec of DICOM: bytes in, values out, and back. No network, no disk; the only place besides `archives` for pydicom."""
