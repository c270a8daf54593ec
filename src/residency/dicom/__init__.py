"""The codec of DICOM: bytes in, values out, and back. No network, no disk; it and `archives` alone name pydicom."""
