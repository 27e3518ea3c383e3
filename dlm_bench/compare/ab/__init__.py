"""Two revisions measured alternately on one machine (`dlm-bench ab`)."""
