"""JSON for formats and bridge alike: text and schemas."""
