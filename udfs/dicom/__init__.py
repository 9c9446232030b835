"""DICOM files: read within limits, de-identified, held back where pixels may hold text."""
