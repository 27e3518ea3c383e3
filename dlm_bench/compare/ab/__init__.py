"""Two revisions, measured alternately on the same machine (`dlm-bench ab`)."""
