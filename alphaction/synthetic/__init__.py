"""Generated data sets: real video files of drawn figures whose actions show only in their motion."""
